import Artifacts
import Foundation
import Schemas
import TestSupport
import Testing

@Suite struct ArtifactStoreTests {
  let key = SigningKey()
  var trust: ModelTrust { ModelTrust(keys: [self.key.verificationKey]) }
  let folder: TemporaryFolder
  let store: ArtifactStore

  init() throws {
    self.folder = try TemporaryFolder()
    self.store = try ArtifactStore(folder: "\(self.folder.path)/source")
  }

  /// A model of two files, of which the first is longer than one piece.
  @discardableResult
  func make(_ version: String, head: UInt8) throws -> SignedManifest {
    let trunk = (0..<(ArtifactSender.pieceSize * 2 + 5)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let files = [
      try self.store.store(trunk, name: "trunk"), try self.store.store([head], name: "head"),
    ]
    let signed = try self.key.sign(ModelManifest(version: version, files: files))
    try self.store.save(signed)
    return signed
  }

  func chunks(_ version: String, skipping: [[UInt8]] = []) throws -> [ModelChunk] {
    try ArtifactSender(version, from: self.store, skipping: skipping).map { try $0.get() }
  }

  func receiver(_ name: String) throws -> (ArtifactStore, ArtifactReceiver) {
    let store = try ArtifactStore(folder: "\(self.folder.path)/\(name)")
    return (store, ArtifactReceiver(into: store, trust: self.trust))
  }

  func code(_ body: () throws -> Void) -> ArtifactError.Code? {
    do { try body() } catch { return (error as? ArtifactError)?.code }
    return nil
  }

  @Test func aModelTravelsWhole() throws {
    let signed = try self.make("v1", head: 1)
    var (store, receiver) = try self.receiver("target")
    for chunk in try self.chunks("v1") { try receiver.receive(chunk) }
    #expect(try receiver.finish() == signed)
    let (manifest, files) = try store.open("v1", trust: self.trust)
    #expect(manifest.version == "v1")
    #expect(files["head"] == [1])
    #expect(files["trunk"]?.count == ArtifactSender.pieceSize * 2 + 5)
  }

  @Test func aNewHeadTravelsAlone() throws {
    let first = try ManifestRules.decode(self.make("v1", head: 1))
    try self.make("v2", head: 2)
    let objects = try FileManager.default.contentsOfDirectory(atPath: "\(self.store.folder)/objects")
    #expect(objects.count == 3)
    let chunks = try self.chunks("v2", skipping: first.files.map(\.sha256))
    #expect(chunks.count == 2)
    var (store, receiver) = try self.receiver("target")
    for chunk in try self.chunks("v1") { try receiver.receive(chunk) }
    _ = try receiver.finish()
    receiver = ArtifactReceiver(into: store, trust: self.trust)
    for chunk in chunks { try receiver.receive(chunk) }
    _ = try receiver.finish()
    #expect(store.versions() == ["v1", "v2"])
    try store.remove("v1")
    #expect(try store.open("v2", trust: self.trust).files["head"] == [2])
    #expect(!store.contains(first.files[1].sha256))
  }

  @Test func wrongBytesOrderAndEndAreRefused() throws {
    try self.make("v1", head: 1)
    let chunks = try self.chunks("v1")
    var (store, receiver) = try self.receiver("a")
    #expect(self.code { try receiver.receive(chunks[1]) } == .incomplete)

    (store, receiver) = try self.receiver("b")
    try receiver.receive(chunks[0])
    #expect(self.code { try receiver.receive(chunks[2]) } == .incomplete)

    (store, receiver) = try self.receiver("c")
    for chunk in chunks.dropLast() { try receiver.receive(chunk) }
    #expect(self.code { _ = try receiver.finish() } == .incomplete)
    #expect(store.versions().isEmpty)

    (store, receiver) = try self.receiver("d")
    try receiver.receive(chunks[0])
    guard case .piece(var piece) = chunks[1].part else {
      Issue.record("the second chunk is no piece")
      return
    }
    piece.data[0] ^= 1
    try receiver.receive(ModelChunk(part: .piece(piece)))
    try receiver.receive(chunks[2])
    #expect(self.code { try receiver.receive(chunks[3]) } == .corrupt)
    #expect(self.code { try receiver.receive(ModelChunk()) } == .incomplete)

    (store, receiver) = try self.receiver("e")
    try receiver.receive(chunks[0])
    piece.data = Array(repeating: 0, count: ArtifactReceiver.maximumPieceSize + 1)
    #expect(self.code { try receiver.receive(ModelChunk(part: .piece(piece))) } == .tooLarge)
  }

  @Test func filesThatChangeOnDiskAreNotUsed() throws {
    let manifest = try ManifestRules.decode(self.make("v1", head: 1))
    let path = self.store.path(of: manifest.files[0].sha256)
    let handle = try FileHandle(forWritingTo: URL(filePath: path))
    try handle.truncate(atOffset: 100)
    try handle.close()
    #expect(self.code { _ = try self.store.open("v1", trust: self.trust) } == .corrupt)
    #expect(self.code { _ = try self.chunks("v1") } == .corrupt)
    #expect(self.code { _ = try self.store.open("v2", trust: self.trust) } == .notFound)
    #expect(self.code { _ = try self.store.open("../../etc/passwd", trust: self.trust) } == .notFound)
  }

  @Test func `a model's time is over by the clock that its opener goes by`() throws {
    try self.store.save(self.key.sign(ModelManifest(version: "v1", expiresUnixNanos: 100)))
    #expect(self.code { _ = try self.store.open("v1", trust: self.trust) } == .expired)
    #expect(self.code { _ = try self.store.open("v1", trust: self.trust, now: 100) } == .expired)
    #expect(self.code { _ = try self.store.open("v1", trust: self.trust, now: .min) } == nil)
  }

  @Test func aManifestWithoutItsFilesIsNotKept() throws {
    let file = ModelFile(name: "a", bytes: 1, sha256: Array(repeating: 9, count: 32))
    let signed = try self.key.sign(ModelManifest(version: "v1", files: [file]))
    #expect(self.code { try self.store.save(signed) } == .incomplete)
  }
}
