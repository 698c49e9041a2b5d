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

  /// Installs a version as a follower does that was told it by an answer.
  private func install(
    _ version: String, in keeper: ModelKeeper, memory: VersionMemory = .init(), pin: [UInt8] = [],
    fetch: ArtifactSource? = nil
  ) async throws -> ModelKeeper.Installed {
    try await keeper.install(
      DesiredVersion(robot: "r1", version: version, generation: 1, epoch: 1, manifestSha256: pin),
      memory: memory, fetch: fetch ?? self.registry.fetch)
  }

  private func memory(_ version: String, _ serial: UInt64) -> VersionMemory {
    var memory = VersionMemory()
    memory.acts(with: version, serial: serial)
    return memory
  }

  private func code(_ body: () async throws -> Void) async -> ArtifactError.Code? {
    do { try await body() } catch { return (error as? ArtifactError)?.code }
    return nil
  }

  /// Overwrites what is kept under a path of the robot's models.
  private func damage(_ path: String) throws {
    try Data([1, 2, 3]).write(to: URL(filePath: "\(self.folder.path)/models/\(path)"))
  }

  @Test func fetchesOnceAndKeeps() async throws {
    try self.registry.add("v1", content: 7)
    let keeper = try self.keeper()
    #expect(await keeper.lastGood(VersionMemory()) == nil)
    let installed = try await self.install("v1", in: keeper)
    #expect(installed.policy.version == "v1" && installed.serial == 1)
    #expect(try await installed.policy.act(Observation())[0] == 7)
    _ = try await self.install("v1", in: keeper) { _, _ in throw Offline() }
    var memory = VersionMemory()
    memory.acts(with: "v1", serial: 1)
    try await keeper.remember(memory)
    let restarted = try self.keeper()
    let (recalled, damage) = await restarted.recall()
    #expect(recalled == memory && damage == nil)
    #expect(await restarted.lastGood(recalled)?.policy.version == "v1")
  }

  @Test func keepsTheLastGoodModelWhenANewOneIsBad() async throws {
    try self.registry.add("v1")
    try self.registry.add("v2", expires: 1)
    let keeper = try self.keeper()
    _ = try await self.install("v1", in: keeper)
    #expect(await self.code { _ = try await self.install("v2", in: keeper) } == .expired)
    #expect(await keeper.lastGood(self.memory("v1", 1)) != nil)
  }

  @Test func refusesStrangersAndOldModels() async throws {
    try self.registry.add("v1", serial: 3)
    let stranger = try self.keeper(trusting: SigningKey())
    #expect(await self.code { _ = try await self.install("v1", in: stranger) } == .untrustedKey)
    let strict = try self.keeper(minimumSerial: 4)
    #expect(await self.code { _ = try await self.install("v1", in: strict) } == .tooOld)
    #expect(try self.folder.names("models/manifests").isEmpty)
  }

  @Test func takesAnOlderModelBackOnlyWhereTheReleaseNamesItsContent() async throws {
    try self.registry.add("v1", serial: 1)
    try self.registry.add("v2", serial: 2, content: 2)
    let keeper = try self.keeper()
    let first = try await self.install("v1", in: keeper)
    _ = try await self.install("v2", in: keeper)
    let memory = self.memory("v2", 2)
    #expect(await self.code { _ = try await self.install("v1", in: keeper, memory: memory) } == .tooOld)
    let back = try await self.install("v1", in: keeper, memory: memory, pin: first.sha256)
    #expect(back.policy.version == "v1")
    let other = [UInt8](repeating: 9, count: 32)
    #expect(
      await self.code { _ = try await self.install("v1", in: keeper, memory: memory, pin: other) }
        == .otherContent)
    #expect(await keeper.lastGood(self.memory("v1", 2)) != nil, "and keeps what it has")
  }

  @Test func `what it acted with does not come back as other content, though nobody ever named it`()
    async throws
  {
    let keeper = try self.keeper()
    let held = HeldModel()
    for number in 1...2 {
      try self.registry.add("v\(number)", serial: UInt64(number), content: UInt8(number))
      held.install(try await self.install("v\(number)", in: keeper, memory: held.memory))
    }
    // It has only that many on its disk.
    try FileManager.default.removeItem(atPath: self.folder.path + "/models/manifests/v1")
    try self.registry.add("v1", serial: 9, content: 9)
    #expect(
      await self.code { _ = try await self.install("v1", in: keeper, memory: held.memory) } == .otherContent)
    // One whose agent kept no contents knows that of the model that it acts with.
    let restarted = HeldModel()
    let v2 = await keeper.lastGood(self.memory("v2", 2))
    restarted.restore(self.memory("v2", 2), v2)
    try self.registry.add("v2", serial: 9, content: 9)
    try self.damage("manifests/v2")
    #expect(
      await self.code { _ = try await self.install("v2", in: keeper, memory: restarted.memory) }
        == .otherContent)
  }

  @Test func mendsWhatTheDiskDamagedAlsoWhereTwoVersionsShareIt() async throws {
    try self.registry.add("v1", content: 9)
    try self.registry.add("v2", serial: 2, content: 9)
    let keeper = try self.keeper()
    for version in ["v1", "v2"] { _ = try await self.install(version, in: keeper) }
    let objects = try self.folder.names("models/objects")
    #expect(objects.count == 1)
    for version in ["v1", "v2"] {
      try self.damage("objects/\(objects[0])")
      #expect(await keeper.lastGood(self.memory(version, 2)) == nil)
      let mended = try await self.install(version, in: keeper)
      #expect(try await mended.policy.act(Observation())[0] == 9)
    }
    // A version that is not here yet shares what is damaged.
    try self.registry.add("v3", serial: 3, content: 9)
    try self.damage("objects/\(objects[0])")
    #expect(try await self.install("v3", in: keeper).policy.act(Observation())[0] == 9)
    // Without a network nothing is lost on top.
    try self.damage("objects/\(objects[0])")
    await #expect(throws: Offline.self) {
      try await self.install("v3", in: keeper) { _, _ in throw Offline() }
    }
    #expect(try await self.install("v1", in: keeper).policy.act(Observation())[0] == 9)
  }

  @Test func mendsADamagedManifestWhateverByteItIs() async throws {
    try self.registry.add("v1", content: 9)
    try self.registry.add("v2", serial: 2, content: 8)
    let keeper = try self.keeper()
    for version in ["v1", "v2"] { _ = try await self.install(version, in: keeper) }
    let path = URL(filePath: self.folder.path + "/models/manifests/v1")
    let whole = try Data(contentsOf: path)
    for index in whole.indices {
      var damaged = whole
      damaged[index] ^= 0x10
      try damaged.write(to: path)
      #expect(try await self.install("v1", in: keeper).policy.act(Observation())[0] == 9, "byte \(index)")
    }
    try Data().write(to: path)
    #expect(try await self.install("v2", in: keeper).policy.act(Observation())[0] == 8)
    #expect(try await self.install("v1", in: keeper).policy.act(Observation())[0] == 9)
  }

  @Test func trustsNoOlderModelWhereItsMemoryIsDamagedAndActsWithNone() async throws {
    try self.registry.add("v1")
    try self.registry.add("v2", serial: 6, content: 2)
    let keeper = try self.keeper()
    for version in ["v1", "v2"] { _ = try await self.install(version, in: keeper) }
    var memory = VersionMemory()
    memory.acts(with: "v1", serial: 6)
    try await keeper.remember(memory)
    try self.damage("memory")
    let (recalled, damage) = await keeper.recall()
    #expect(damage?.contains("damaged") == true)
    #expect(recalled == VersionMemory(highestSerial: 6))
    #expect(await keeper.lastGood(recalled) == nil)
  }

  @Test func refusesAModelUnderAnotherName() async throws {
    try self.registry.add("v1")
    try self.registry.add("v2")
    let registry = self.registry
    let keeper = try self.keeper()
    await #expect(throws: ArtifactError.self) {
      _ = try await self.install("v1", in: keeper) { _, take in
        try await registry.fetch(GetModelRequest(version: "v2"), take)
      }
    }
  }

  @Test func forgetsTheOldest() async throws {
    let keeper = try self.keeper()
    for number in 1...6 {
      try self.registry.add("v\(number)", content: UInt8(number))
      _ = try await self.install("v\(number)", in: keeper)
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
