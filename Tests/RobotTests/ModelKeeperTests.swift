import Artifacts
import Foundation
import Policy
import Schemas
import TestSupport
import Testing

@testable import RobotCore

/// A registry of signed models.
private struct Registry: Sendable {
  let store: ArtifactStore
  let key = SigningKey()

  init(_ folder: TemporaryFolder) throws { self.store = try ArtifactStore(folder: folder.path + "/registry") }

  func add(_ version: String, serial: UInt64 = 1, expires: Int64 = 0, content: UInt8 = 1) throws {
    let file = try self.store.store([UInt8](repeating: content, count: 1_000), name: "weights")
    let manifest = ModelManifest(
      version: version, tasks: ["reach-v3"], files: [file], expiresUnixNanos: expires, serial: serial)
    try self.store.save(try self.key.sign(manifest))
  }

  @Sendable func fetch(
    _ request: GetModelRequest, _ take: @escaping @Sendable (ModelChunk) async throws -> Void
  ) async throws {
    for chunk in try ArtifactSender(request.version, from: self.store, skipping: request.haveSha256) {
      try await take(try chunk.get())
    }
  }
}

@Suite struct ModelKeeperTests {
  private struct Offline: Error {}

  private let folder: TemporaryFolder
  private let registry: Registry

  init() throws {
    self.folder = try TemporaryFolder()
    self.registry = try Registry(self.folder)
  }

  private func keeper(trusting key: SigningKey? = nil, minimumSerial: UInt64 = 0) throws -> ModelKeeper {
    let keys = [(key ?? self.registry.key).verificationKey]
    return try ModelKeeper(
      folder: self.folder.path + "/models", trust: { ModelTrust(keys: keys, minimumSerial: minimumSerial) }
    ) { manifest, files in
      FixedPolicy(version: manifest.version, actions: [Float(files["weights"]?.first ?? 0), 0, 0, 0])
    }
  }

  @Test func fetchesOnceAndKeeps() async throws {
    try self.registry.add("v1", content: 7)
    let keeper = try self.keeper()
    #expect(await keeper.lastGood() == nil)
    let policy = try await keeper.policy(version: "v1", fetch: self.registry.fetch)
    #expect(policy.version == "v1")
    #expect(try await policy.act(Observation())[0] == 7)
    _ = try await keeper.policy(version: "v1") { _, _ in throw Offline() }
    #expect(await (try self.keeper()).lastGood()?.version == "v1", "it survives a restart")
  }

  @Test func keepsTheLastGoodModelWhenANewOneIsBad() async throws {
    try self.registry.add("v1")
    try self.registry.add("v2", expires: 1)
    let keeper = try self.keeper()
    _ = try await keeper.policy(version: "v1", fetch: self.registry.fetch)
    let error = await #expect(throws: ArtifactError.self) {
      _ = try await keeper.policy(version: "v2", fetch: self.registry.fetch)
    }
    #expect(error?.code == .expired)
    #expect(await keeper.lastGood()?.version == "v1")
  }

  @Test func refusesStrangersAndOldModels() async throws {
    try self.registry.add("v1", serial: 3)
    let stranger = await #expect(throws: ArtifactError.self) {
      _ = try await self.keeper(trusting: SigningKey()).policy(version: "v1", fetch: self.registry.fetch)
    }
    #expect(stranger?.code == .untrustedKey)
    let old = await #expect(throws: ArtifactError.self) {
      _ = try await self.keeper(minimumSerial: 4).policy(version: "v1", fetch: self.registry.fetch)
    }
    #expect(old?.code == .tooOld)
    #expect(await (try self.keeper()).lastGood() == nil)
  }

  @Test func fetchesAgainWhatTheDiskDamaged() async throws {
    try self.registry.add("v1", content: 9)
    _ = try await self.keeper().policy(version: "v1", fetch: self.registry.fetch)
    let objects = self.folder.path + "/models/objects"
    for name in try FileManager.default.contentsOfDirectory(atPath: objects) {
      try Data([1, 2, 3]).write(to: URL(filePath: "\(objects)/\(name)"))
    }
    let keeper = try self.keeper()
    #expect(await keeper.lastGood() == nil)
    let policy = try await keeper.policy(version: "v1", fetch: self.registry.fetch)
    #expect(try await policy.act(Observation())[0] == 9)
  }

  @Test func refusesAModelUnderAnotherName() async throws {
    try self.registry.add("v1")
    try self.registry.add("v2")
    let registry = self.registry
    await #expect(throws: ArtifactError.self) {
      _ = try await self.keeper().policy(version: "v1") { _, take in
        try await registry.fetch(GetModelRequest(version: "v2"), take)
      }
    }
  }

  @Test func forgetsTheOldest() async throws {
    let keeper = try self.keeper()
    for number in 1...6 {
      try self.registry.add("v\(number)", content: UInt8(number))
      _ = try await keeper.policy(version: "v\(number)", fetch: self.registry.fetch)
    }
    let kept = try self.folder.names("models/manifests")
    #expect(kept.count == ModelKeeper.keptVersions)
    #expect(kept.contains("v6"))
  }
}

@Suite struct EnginePolicyTests {
  private let configuration = PolicyConfiguration(imageSize: 32)

  private func model(version: String) throws -> (ModelManifest, [String: [UInt8]]) {
    let network = try PolicyNetwork(configuration: .init(self.configuration), tasks: ["reach-v3"])
    let files = Dictionary(uniqueKeysWithValues: try network.files().map { ($0.name, $0.bytes) })
    return (ModelManifest(version: version, policy: self.configuration, tasks: ["reach-v3"]), files)
  }

  private func observation(task: String = "reach-v3", bytes: Int = 64 * 64 * 3) -> Observation {
    Observation(
      task: task, image: [UInt8](repeating: 90, count: bytes), imageHeight: 64, imageWidth: 64,
      jointAngles: [0, -1, 0, 1, 0, 1, 3])
  }

  @Test func actsInThisProcess() async throws {
    let (manifest, files) = try self.model(version: "v3")
    let policy = try EnginePolicy.load(manifest, files)
    #expect(policy.version == "v3")
    let actions = try await policy.act(self.observation())
    #expect(actions.count == 4 && actions.allSatisfy { abs($0) <= 1 })
  }

  @Test func refusesWhatItCannotDo() async throws {
    let (manifest, files) = try self.model(version: "v3")
    let policy = try EnginePolicy.load(manifest, files)
    await #expect(throws: PolicyError.self) { _ = try await policy.act(self.observation(task: "unknown")) }
    await #expect(throws: PolicyError.self) { _ = try await policy.act(self.observation(bytes: 7)) }
    let truncated = files.mapValues { Array($0.prefix(20)) }
    #expect(throws: PolicyError.self) { _ = try EnginePolicy.load(manifest, truncated) }
    #expect(throws: PolicyError.self) { _ = try EnginePolicy.load(manifest, [:]) }
  }
}
