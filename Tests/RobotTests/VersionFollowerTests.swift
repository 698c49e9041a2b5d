import Artifacts
import Foundation
import Logging
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

@Suite struct VersionFollowerTests {
  private struct Refused: Error {}

  /// What the robot reported, what it remembered, and what it is answered.
  private final class Fleet: Sendable {
    let state = Mutex((reports: [ReportVersionRequest](), memory: VersionMemory(), answer: DesiredVersion()))
    var last: ReportVersionRequest? { self.state.withLock { $0.reports.last } }
    var memory: VersionMemory { self.state.withLock { $0.memory } }
    func answer(_ desired: DesiredVersion) { self.state.withLock { $0.answer = desired } }
    @Sendable func report(_ request: ReportVersionRequest) -> DesiredVersion {
      self.state.withLock {
        $0.reports.append(request)
        return $0.answer
      }
    }
    @Sendable func remember(_ memory: VersionMemory) { self.state.withLock { $0.memory = memory } }
  }

  private let model = HeldModel()
  private let trials = TrialSlot()
  private let fleet = Fleet()

  private func start(
    install: @escaping VersionFollower.Install = { desired, _ in .init(FixedPolicy(version: desired.version))
    },
    remember: VersionFollower.Remember? = nil
  ) -> Task<Void, Never> {
    let follower = VersionFollower(
      robot: "r1", model: self.model, trials: self.trials, interval: .milliseconds(10),
      logger: Logger(label: "test"), install: install, remember: remember ?? self.fleet.remember,
      report: self.fleet.report)
    return Task { await follower.run() }
  }

  private func desired(_ version: String, _ generation: UInt64, epoch: UInt64 = 1) -> DesiredVersion {
    DesiredVersion(robot: "r1", version: version, generation: generation, epoch: epoch)
  }

  @Test func installsReportsAndGoesBack() async throws {
    self.fleet.answer(self.desired("v1", 1))
    let running = self.start { desired, _ in
      guard desired.version != "bad" else { throw Refused() }
      return .init(FixedPolicy(version: desired.version), sha256: [7], serial: 4)
    }
    defer { running.cancel() }
    try await eventually("v1 is reported") { self.fleet.last?.version == "v1" }
    #expect(self.fleet.state.withLock { $0.reports.first?.version } == "")
    #expect(self.fleet.last?.following == self.desired("v1", 1) && self.fleet.last?.manifestSha256 == [7])
    self.fleet.answer(self.desired("bad", 2))
    try await eventually("the failure is reported") { self.fleet.last?.error.isEmpty == false }
    #expect(self.model.current?.version == "v1")
    self.fleet.answer(self.desired("v2", 3))
    try await eventually("v2 is reported") {
      self.fleet.last?.version == "v2" && self.fleet.last?.following?.generation == 3
        && self.fleet.last?.error == ""
    }
    #expect(self.fleet.memory.current == "v2" && self.fleet.memory.highestSerial == 4)
    #expect(self.fleet.memory.desired.generation == 3)
  }

  @Test func `a publication of another epoch is asked about, not followed`() {
    self.model.desire(self.desired("v1", 3), from: .answer)
    let changes = self.model.changed.changes
    self.model.desire(self.desired("v1", 3), from: .publication)
    self.model.desire(self.desired("v0", 2), from: .publication)
    #expect(self.model.changed.changes == changes, "what is no news is not asked about")
    self.model.desire(self.desired("v2", 1, epoch: 2), from: .publication)
    #expect(self.model.changed.changes == changes + 1)
    #expect(self.model.desired == self.desired("v1", 3))
  }

  @Test func `an order to give the model up that is overtaken while it is written takes none`() async throws {
    self.model.desire(self.desired("v1", 1), from: .answer)
    self.model.install(.init(FixedPolicy(version: "v1")))
    var removal = self.desired("", 2)
    removal.remove = true
    self.model.desire(removal, from: .answer)
    let installations = Atomic(0)
    let running = self.start(
      install: { desired, _ in
        installations.add(1, ordering: .relaxed)
        return .init(FixedPolicy(version: desired.version))
      },
      remember: { memory in
        if memory.desired.remove { self.model.desire(self.desired("v1", 3), from: .publication) }
        self.fleet.remember(memory)
      })
    defer { running.cancel() }
    try await eventually("the newer order is reported") { self.fleet.last?.following?.generation == 3 }
    #expect(self.model.current?.version == "v1")
    #expect(installations.load(ordering: .relaxed) == 0, "it was held all the time")
  }

  @Test func reportsAVersionOnlyWhenItActsWithIt() async throws {
    self.model.install(.init(FixedPolicy(version: "v1")))
    try self.trials.take(.init(trialID: "t1", modelVersion: "v1"))
    self.fleet.answer(self.desired("v2", 1))
    let running = self.start()
    defer { running.cancel() }
    try await eventually("v2 is installed") { self.model.current?.version == "v2" }
    let before = self.fleet.state.withLock { $0.reports.count }
    try await eventually("and reported again") { self.fleet.state.withLock { $0.reports.count } > before + 5 }
    #expect(self.fleet.state.withLock { !$0.reports.contains { $0.version == "v2" } })
    self.trials.release("t1")
    try await eventually("v2 is reported") { self.fleet.last?.version == "v2" }
  }

  @Test func keepsItsModelUnlessItIsOrderedAway() async throws {
    self.model.install(.init(FixedPolicy(version: "v1")))
    let running = self.start()
    defer { running.cancel() }
    // A rollout that knows nothing: no generation; or one that has an epoch and no version, but no order.
    for answer in [DesiredVersion(robot: "r1"), self.desired("", 1, epoch: 2)] {
      self.fleet.answer(answer)
      let before = self.fleet.state.withLock { $0.reports.count }
      try await eventually("it was answered") { self.fleet.state.withLock { $0.reports.count } > before + 3 }
      #expect(self.model.current?.version == "v1")
    }
    self.fleet.answer(
      DesiredVersion(robot: "r1", generation: 2, epoch: 2, remove: true))
    try await eventually("the model is given up") { self.model.current == nil }
    try await eventually("and that is remembered") { self.fleet.memory.current == "" }
  }

  @Test func installsOtherContentOfTheVersionThatItHas() async throws {
    self.model.install(.init(FixedPolicy(version: "v1"), sha256: [1], serial: 1))
    var wanted = self.desired("v1", 1)
    wanted.manifestSha256 = [2]
    self.fleet.answer(wanted)
    let running = self.start { desired, _ in
      .init(FixedPolicy(version: desired.version), sha256: desired.manifestSha256, serial: 2)
    }
    defer { running.cancel() }
    try await eventually("the other content is reported") { self.fleet.last?.manifestSha256 == [2] }
  }

  @Test func followsEvenWhereTheDiskRefusesToRemember() async throws {
    self.model.install(.init(FixedPolicy(version: "bad")))
    self.fleet.answer(self.desired("v1", 1))
    let running = self.start(remember: { _ in throw StorageError(.diskFull, "full") })
    defer { running.cancel() }
    try await eventually("v1 is reported") { self.fleet.last?.version == "v1" }
  }

  @Test func beginsNoTrialWithAModelWhoseTimeIsOver() async throws {
    let expires = UnixTime.now + 1_000_000_000
    self.model.install(.init(FixedPolicy(version: "v1"), expiresUnixNanos: expires))
    try self.trials.take(.init(trialID: "t1", modelVersion: "v1"))
    while UnixTime.now <= expires { try await Task.sleep(for: .milliseconds(20)) }
    #expect(self.model.current == nil)
    self.fleet.answer(self.desired("v1", 1))
    let running = self.start { _, _ in throw ArtifactError(.expired, "Model v1 expired.") }
    defer { running.cancel() }
    try await eventually("it is told") { self.fleet.last?.error.contains("expired") == true }
    #expect(self.fleet.last?.version == "v1", "the trial that runs goes on with it")
    self.trials.release("t1")
    try await eventually("no model acts") { self.fleet.last?.version == "" }
  }
}

@Suite struct VersionMemoryTests {
  private func desired(
    _ version: String, _ generation: UInt64, epoch: UInt64, pin: [UInt8] = []
  ) -> DesiredVersion {
    DesiredVersion(
      robot: "r1", version: version, generation: generation, epoch: epoch, manifestSha256: pin)
  }

  @Test func followsNewerGenerationsAndNewEpochsByAnswerOnly() {
    var memory = VersionMemory()
    func follow(_ generation: UInt64, _ epoch: UInt64, _ source: VersionMemory.Source) -> Bool {
      memory.follow(self.desired("v", generation, epoch: epoch), from: source)
    }
    #expect(!follow(1, 5, .publication), "what it was never answered may be old")
    #expect(!follow(0, 5, .answer), "a rollout that knows nothing says nothing")
    #expect(follow(2, 5, .answer))
    #expect(!follow(2, 5, .answer) && !follow(1, 5, .answer) && !follow(1, 5, .publication))
    #expect(follow(3, 5, .publication))
    #expect(!follow(9, 6, .publication))
    #expect(follow(1, 6, .answer), "rollout lost its state")
    #expect(!follow(8, 5, .publication), "an order of before the loss")
    #expect(!follow(4, 0, .answer))
    #expect(follow(.max, 6, .publication) && !follow(.max, 6, .answer))
    #expect(follow(2, 7, .answer))
  }

  @Test func `an order that names no content takes back no content that was named`() {
    var memory = VersionMemory()
    func follow(_ desired: DesiredVersion) -> [UInt8] {
      _ = memory.follow(desired, from: .answer)
      return memory.desired.manifestSha256
    }
    #expect(follow(self.desired("v1", 1, epoch: 1, pin: [1])) == [1])
    #expect(follow(self.desired("v1", 2, epoch: 1)) == [1])
    #expect(follow(self.desired("v1", 1, epoch: 2)) == [1], "a rollout that lost its pins is no other word")
    #expect(follow(self.desired("v1", 2, epoch: 2, pin: [2])) == [2])
    #expect(follow(self.desired("v2", 3, epoch: 2)).isEmpty)
  }

  @Test func anOlderModelComesBackOnlyWhereItsContentIsNamed() {
    var memory = VersionMemory()
    memory.acts(with: "v5", serial: 5)
    memory.acts(with: "", serial: 0)
    #expect(memory.highestSerial == 5)
    func code(_ serial: UInt64, _ hash: UInt8, _ pin: [UInt8]) -> ArtifactError.Code? {
      do throws(ArtifactError) {
        try memory.check(
          ModelManifest(version: "v", serial: serial), [hash], for: self.desired("v", 1, epoch: 1, pin: pin))
        return nil
      } catch { return error.code }
    }
    #expect(code(4, 1, []) == .tooOld)
    #expect(code(4, 1, [1]) == nil)
    #expect(code(5, 1, []) == nil && code(6, 1, []) == nil)
    #expect(code(6, 1, [2]) == .otherContent)
  }

  @Test func `what it acted with or was named stays the content of its version`() throws {
    var memory = VersionMemory()
    _ = memory.follow(self.desired("v1", 1, epoch: 1), from: .answer)
    memory.acts(with: "v1", sha256: [1], serial: 5)
    _ = memory.follow(self.desired("v2", 2, epoch: 1, pin: [2]), from: .answer)
    _ = memory.follow(self.desired("v3", 3, epoch: 1, pin: [3]), from: .answer)
    memory.acts(with: "v3", sha256: [3], serial: 5)
    for memory in [memory, try VersionMemory(bytes: memory.bytes)] {
      func code(_ version: String, _ hash: UInt8, pin: [UInt8] = []) -> ArtifactError.Code? {
        do throws(ArtifactError) {
          let desired = self.desired(version, 4, epoch: 1, pin: pin)
          try memory.check(ModelManifest(version: version, serial: 5), [hash], for: desired)
          return nil
        } catch { return error.code }
      }
      for number in UInt8(1)...3 {
        #expect(code("v\(number)", number) == nil)
        #expect(code("v\(number)", 9) == .otherContent)
        #expect(code("v\(number)", 9, pin: [9]) == nil, "who names the content decides")
      }
      #expect(code("v4", 9) == nil)
    }
    // Only what is named brings an older model back.
    let old = ModelManifest(version: "v1", serial: 4)
    let error = #expect(throws: ArtifactError.self) {
      try memory.check(old, [1], for: self.desired("v1", 4, epoch: 1))
    }
    #expect(error?.code == .tooOld)
    for number in 0..<1_000 {
      let version = String(repeating: "v", count: 60) + "\(number)"
      memory.acts(with: version, sha256: [UInt8](repeating: UInt8(number % 256), count: 32), serial: 5)
    }
    #expect(try memory.bytes.count < VersionMemory.maximumBytes / 2)
  }

  @Test func `a memory of an agent that kept no contents is read`() throws {
    let json = Array(#"{"current":"v1","desired":"","highestSerial":7}"#.utf8)
    let bytes = Array(Digest.hex(Digest.sha256(json)).utf8) + [UInt8(ascii: "\n")] + json
    let memory = try VersionMemory(bytes: bytes)
    #expect(memory.current == "v1" && memory.highestSerial == 7)
  }

  @Test func isTheSameAfterARestartAndKnowsWhenItIsDamaged() throws {
    var memory = VersionMemory()
    _ = memory.follow(self.desired("v2", 9, epoch: 3, pin: [1, 2]), from: .answer)
    memory.acts(with: "v2", sha256: [1, 2], serial: 12)
    let bytes = try memory.bytes
    #expect(try VersionMemory(bytes: bytes) == memory)
    for index in bytes.indices where index != 64 {
      var damaged = bytes
      damaged[index] ^= 1
      #expect(throws: (any Error).self, "byte \(index)") { try VersionMemory(bytes: damaged) }
    }
    for count in bytes.indices {
      #expect(throws: (any Error).self) { try VersionMemory(bytes: Array(bytes.prefix(count))) }
    }
  }

  @Test func `why an earlier wish failed is not told of the present one`() {
    let model = HeldModel()
    let first = DesiredVersion(robot: "r1", version: "v1", generation: 1)
    model.desire(first, from: .publication)
    model.desire(DesiredVersion(robot: "r1", version: "v2", generation: 2), from: .publication)
    model.refuse("v1 is damaged", for: first)
    #expect(model.installError == "")
  }
}
