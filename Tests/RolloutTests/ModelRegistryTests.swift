import Artifacts
import Foundation
import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import RolloutCore

@Suite("ModelRegistry")
struct ModelRegistryTests {
  private let folder: TemporaryFolder
  private let maker: ModelMaker
  private let registry: ModelRegistry

  init() throws {
    let folder = try TemporaryFolder()
    let path = folder.path
    self.folder = folder
    self.maker = try ModelMaker(folder: path)
    self.registry = try ModelRegistry(folder: "\(path)/models") { () throws(ArtifactError) in
      try ModelTrust(path: "\(path)/signing.pub")
    }
  }

  @discardableResult
  private func register(_ chunks: [ModelChunk]) async throws -> RegisterModelResponse {
    let upload = try await self.registry.begin()
    do {
      for chunk in chunks { try await self.registry.receive(chunk, of: upload) }
      return try await self.registry.finish(upload)
    } catch {
      await self.registry.abandon(upload)
      throw error
    }
  }

  private func get(_ request: GetModelRequest) async throws -> [ModelChunk] {
    let download = try await self.registry.open(request)
    var chunks: [ModelChunk] = []
    while let chunk = try await self.registry.next(download) { chunks.append(chunk) }
    await self.registry.end(download)
    return chunks
  }

  @Test func `a model comes out as it went in, once`() async throws {
    let chunks = try self.maker.make("v1")
    let first = try await self.register(chunks)
    #expect(first == RegisterModelResponse(version: "v1"))
    #expect(try await self.register(chunks).alreadyRegistered)
    #expect(try await self.get(GetModelRequest(version: "v1")) == chunks)
    #expect(try await self.registry.manifests().map(\.version) == ["v1"])
  }

  @Test func `who fetches a model and does not read makes nobody hold its files`() async throws {
    let files = try (0..<2).map {
      try self.maker.store.store([UInt8](repeating: UInt8($0), count: 16 << 20), name: "file-\($0)")
    }
    try self.maker.store.save(try self.maker.key.sign(ModelManifest(version: "large", files: files)))
    let before = try Self.residentBytes()
    var senders: [ArtifactSender] = []
    for _ in 0..<48 {
      var sender = try ArtifactSender("large", from: self.maker.store)
      for _ in 0..<3 { _ = try sender.next()?.get() }
      senders.append(sender)
    }
    // 48 times 16 MiB where each holds a file.
    #expect(try Self.residentBytes() - before < 300 << 20)
    // And each goes on to its end.
    let rest = try senders[0].map { try $0.get() }
    #expect(rest.count == 2 * (16 << 20) / ArtifactSender.pieceSize - 2)
  }

  private static func residentBytes() throws -> Int {
    let words = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
    return (Int(words[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  @Test func `what the receiver has is left out`() async throws {
    let chunks = try self.maker.make("v1")
    try await self.register(chunks)
    #expect(try await self.get(GetModelRequest(version: "v1", manifestOnly: true)).count == 1)
    let manifest = try #require(try await self.registry.manifests().first)
    let rest = try await self.get(
      GetModelRequest(version: "v1", haveSha256: [try #require(manifest.files.first).sha256]))
    #expect(rest.count == 2)
    guard case .piece(let piece)? = rest.last?.part else {
      Issue.record("the last chunk is no piece")
      return
    }
    #expect(piece.name == "file-1")
  }

  @Test func `a tampered file, manifest or signature is refused and leaves nothing`() async throws {
    let chunks = try self.maker.make("v1")
    var file = chunks
    guard case .piece(var piece)? = file[1].part, case .manifest(let signed)? = chunks[0].part else {
      Issue.record("chunks in another order")
      return
    }
    piece.data[5] ^= 1
    file[1] = ModelChunk(part: .piece(piece))
    await #expect(throws: ArtifactError.self) { try await self.register(file) }
    for change in 0..<3 {
      var bad = signed
      switch change {
      case 0: bad.manifest[bad.manifest.count - 1] ^= 1
      case 1: bad.signature[0] ^= 1
      default: bad.signature = []
      }
      await #expect(throws: ArtifactError.self) {
        try await self.register([ModelChunk(part: .manifest(bad))] + chunks.dropFirst())
      }
    }
    #expect(try await self.registry.manifests().isEmpty)
    #expect(await !self.registry.contains("v1"))
  }

  @Test func `a stranger's model is refused`() async throws {
    let other = try TemporaryFolder()
    let chunks = try ModelMaker(folder: other.path).make("v1")
    do {
      try await self.register(chunks)
      Issue.record("registered")
    } catch let error as ArtifactError {
      #expect(error.code == .untrustedKey)
    }
  }

  @Test func `a model without its end is refused, and welcome when it is whole`() async throws {
    let chunks = try self.maker.make("v1")
    for count in 0..<chunks.count {
      await #expect(throws: ArtifactError.self) { try await self.register(Array(chunks.prefix(count))) }
      #expect(await !self.registry.contains("v1"))
    }
    #expect(try await self.register(chunks).version == "v1")
  }

  @Test func `a model whose caller gave it up is not registered, though all of it is here`() async throws {
    let upload = try await self.registry.begin()
    for chunk in try self.maker.make("v1") { try await self.registry.receive(chunk, of: upload) }
    let registry = self.registry
    let call = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await registry.finish(upload)
    }
    await #expect(throws: CancellationError.self) { try await call.value }
    #expect(await !self.registry.contains("v1"))
  }

  @Test func `a version is never used again for other content`() async throws {
    try await self.register(try self.maker.make("v1"))
    let other = try self.maker.make("v1", seed: 2)
    do {
      try await self.register(other)
      Issue.record("registered")
    } catch let error as RolloutError {
      #expect(error.code == .conflict)
    }
    // Nor where both come in at the same time.
    let first = try self.maker.make("v2", seed: 3)
    let second = try self.maker.make("v2", seed: 4)
    let (one, two) = (try await self.registry.begin(), try await self.registry.begin())
    for chunk in first { try await self.registry.receive(chunk, of: one) }
    for chunk in second { try await self.registry.receive(chunk, of: two) }
    _ = try await self.registry.finish(one)
    await #expect(throws: RolloutError.self) { try await self.registry.finish(two) }
  }

  @Test func `uploads are bounded, and what a killed process left is swept`() async throws {
    for _ in 0..<ModelRegistry.maximumUploads { _ = try await self.registry.begin() }
    await #expect(throws: RolloutError.self) { try await self.registry.begin() }
    let left = "\(self.folder.path)/models/objects/aa.123.partial"
    try Data([1]).write(to: URL(filePath: left))
    let path = self.folder.path
    _ = try ModelRegistry(folder: "\(path)/models") { () throws(ArtifactError) in
      try ModelTrust(path: "\(path)/signing.pub")
    }
    #expect(!FileManager.default.fileExists(atPath: left))
  }

  @Test func `a model that stopped coming gives way to another`() async throws {
    let path = self.folder.path
    let registry = try ModelRegistry(folder: "\(path)/models", patience: .zero) { () throws(ArtifactError) in
      try ModelTrust(path: "\(path)/signing.pub")
    }
    let chunks = try self.maker.make("v1")
    let stalled = try await registry.begin()
    try await registry.receive(chunks[0], of: stalled)
    for _ in 1..<ModelRegistry.maximumUploads { _ = try await registry.begin() }
    let next = try await registry.begin()
    // INVALID_ARGUMENT would say that nobody ever takes it.
    let error = await #expect(throws: RolloutError.self) {
      try await registry.receive(chunks[1], of: stalled)
    }
    #expect(error?.status.code == .resourceExhausted)
    let atItsEnd = await #expect(throws: RolloutError.self) { try await registry.finish(stalled) }
    #expect(atItsEnd?.status.code == .resourceExhausted)
    for chunk in chunks { try await registry.receive(chunk, of: next) }
    #expect(try await registry.finish(next).version == "v1")
  }
}
