import Schemas
import TestSupport
import Testing

@testable import RolloutCore

/// What a robot that follows all rules knows, with one line for each rule.
private struct Follower {
  var name: String
  var version = ""
  var following = DesiredVersion()

  /// Reports to a rollout, and does what it answers.
  mutating func report(to state: inout RolloutState, now: Moment) throws {
    let answer = try state.report(self.request, now: now)
    let isNewer =
      answer.epoch == self.following.epoch
      ? answer.generation > self.following.generation : answer.generation > 0
    guard isNewer else { return }
    self.following = answer
    if !answer.version.isEmpty || answer.remove { self.version = answer.version }
  }

  var request: ReportVersionRequest {
    ReportVersionRequest(
      robot: self.name, version: self.version, following: self.following.generation > 0 ? self.following : nil
    )
  }
}

@Suite("Reports, as a value")
struct ReportTests {
  private func followers(_ names: [String]) -> [Follower] { names.map { Follower(name: $0) } }

  private func release(_ state: inout RolloutState, _ version: String, now: Moment) throws -> String {
    try ReleaseTests.release(&state, version, now: now)
  }

  @Test func `a lost database takes no model from anybody`() throws {
    var (state, robots) = (RolloutState(), self.followers(["a", "b", "c"]))
    for index in robots.indices { try robots[index].report(to: &state, now: 1) }
    _ = try self.release(&state, "v1", now: 2)
    for index in robots.indices { try robots[index].report(to: &state, now: 3) }
    #expect(robots.allSatisfy { $0.version == "v1" })

    state = RolloutState()
    #expect(!state.desired("a").remove && state.desired("a").generation == 0, "nothing known is no order")
    for index in robots.indices { try robots[index].report(to: &state, now: 4) }
    for index in robots.indices { try robots[index].report(to: &state, now: 5) }
    #expect(robots.allSatisfy { $0.version == "v1" })
    #expect(state.fleetVersions.robots.allSatisfy { $0.desired == "v1" && $0.adopted })
    #expect(state.unsettled.isEmpty)

    // Somebody decides; and goes back to what the robots had, which no release here knows.
    let next = try self.release(&state, "v2", now: 6)
    for index in robots.indices { try robots[index].report(to: &state, now: 7) }
    #expect(robots.allSatisfy { $0.version == "v2" })
    #expect(!state.fleetVersions.robots.contains { $0.adopted })
    try state.rollBack(next, reason: "r", alertID: "", evidence: "", salt: "s", now: 8)
    for index in robots.indices { try robots[index].report(to: &state, now: 9) }
    #expect(robots.allSatisfy { $0.version == "v1" })
  }

  @Test func `an unknown robot without a version gets the fleet's, one with an older version too`() throws {
    var (state, robots) = (RolloutState(), self.followers(["a", "late", "new"]))
    var old = RolloutState()
    for index in [0, 1] { try robots[index].report(to: &old, now: 1) }
    _ = try self.release(&old, "v0", now: 2)
    for index in [0, 1] { try robots[index].report(to: &old, now: 3) }
    // The database is lost, "late" is away while the whole fleet gets v1.
    try robots[0].report(to: &state, now: 4)
    let id = try self.release(&state, "v1", now: 5)
    for index in robots.indices { try robots[index].report(to: &state, now: 6) }
    #expect(robots.map(\.version) == ["v1", "v1", "v1"])
    #expect(state.releases[id]?.robots.sorted() == ["a", "late", "new"])
    try state.rollBack(id, reason: "r", alertID: "", evidence: "", salt: "s", now: 7)
    for index in robots.indices { try robots[index].report(to: &state, now: 8) }
    #expect(robots.map(\.version) == ["v0", "v0", ""], "each what it came with")
    #expect(robots[2].following.remove, "a model is taken away by order only")
  }

  @Test func `an older copy of the database does not take back what came after it`() throws {
    var (state, robots) = (RolloutState(), self.followers(["a", "b"]))
    for index in robots.indices { try robots[index].report(to: &state, now: 1) }
    _ = try self.release(&state, "v1", now: 2)
    for index in robots.indices { try robots[index].report(to: &state, now: 3) }
    let backup = state
    _ = try self.release(&state, "v2", now: 4)
    for index in robots.indices { try robots[index].report(to: &state, now: 5) }

    state = backup
    try robots[0].report(to: &state, now: 6)
    #expect(robots[0].version == "v2")
    // The same generation as before, of another release: newer than what "b" follows, so it counts.
    _ = try self.release(&state, "v3", now: 7)
    for index in robots.indices { try robots[index].report(to: &state, now: 8) }
    for index in robots.indices { try robots[index].report(to: &state, now: 9) }
    #expect(robots.map(\.version) == ["v3", "v3"])
    #expect(state.unsettled.isEmpty)
  }

  @Test func `an older copy of a robot's disk gets what was decided since`() throws {
    var (state, robot) = (RolloutState(), Follower(name: "a"))
    try robot.report(to: &state, now: 1)
    _ = try self.release(&state, "v1", now: 2)
    try robot.report(to: &state, now: 3)
    let copy = robot
    // Rollout's own loss begins another epoch; then it decides anew.
    state = RolloutState()
    try robot.report(to: &state, now: 4)
    _ = try self.release(&state, "v2", now: 5)
    try robot.report(to: &state, now: 6)
    #expect(robot.version == "v2")
    robot = copy
    let epoch = state.robots["a"]?.epoch
    try robot.report(to: &state, now: 7)
    #expect(robot.version == "v2")
    #expect(state.robots["a"]?.epoch == epoch, "a robot that is behind begins no epoch")
  }

  @Test(arguments: [UInt64.max, UInt64.max - 1, UInt64(70)])
  func `a generation that was never given neither traps nor locks the robot out`(generation: UInt64) throws {
    var state = try ReleaseTests.fleet(["a"])
    _ = try self.release(&state, "v1", now: 2)
    var robot = Follower(name: "a", version: "v1", following: state.desired("a"))
    robot.following.generation = generation
    try robot.report(to: &state, now: 3)
    try robot.report(to: &state, now: 4)
    #expect(state.unsettled.isEmpty)
    #expect(state.robots["a"]!.generation < 10)
    for (number, version) in ["v2", "v3", "v4"].enumerated() {
      _ = try self.release(&state, version, now: .at(5 + number))
      try robot.report(to: &state, now: .at(5 + number))
      #expect(robot.version == version)
    }
    // Also of a robot that nobody knows.
    var other = RolloutState()
    robot.following.generation = generation
    try robot.report(to: &other, now: 20)
    _ = try self.release(&other, "v5", now: 21)
    try robot.report(to: &other, now: 22)
    #expect(robot.version == "v5")
  }

  @Test func `a decision from the future does not outlive those of today`() throws {
    var state = RolloutState()
    let following = DesiredVersion(
      robot: "a", version: "v0", generation: 3, epoch: 9, decidedUnixNanos: .max)
    var robot = Follower(name: "a", version: "v0", following: following)
    try robot.report(to: &state, now: 5)
    #expect(robot.version == "v0")
    #expect(state.robots["a"]?.decidedUnixNanos == 5)
  }

  @Test func `what was found bad here is not adopted`() throws {
    var state = try ReleaseTests.fleet(["a"])
    let bad = try self.release(&state, "bad", now: 2)
    var stray = Follower(
      name: "b", version: "bad",
      following: DesiredVersion(
        robot: "b", version: "bad", releaseID: bad, generation: 1, epoch: 7, decidedUnixNanos: 2))
    try state.rollBack(bad, reason: "r", alertID: "", evidence: "", salt: "s", now: 3)
    try stray.report(to: &state, now: 4)
    #expect(stray.version == "" && stray.following.remove)
  }

  @Test func `names that are none are not taken over`() throws {
    var state = RolloutState()
    var following = DesiredVersion(robot: "a", version: "../v", releaseID: "x/y", generation: 1, epoch: 7)
    _ = try state.report(ReportVersionRequest(robot: "a", version: "../v", following: following), now: 1)
    #expect(state.desired("a").generation == 0)
    following.version = "v1"
    _ = try state.report(ReportVersionRequest(robot: "b", version: "v1", following: following), now: 1)
    #expect(state.desired("b").version == "v1" && state.desired("b").releaseID == "")
  }

  @Test func `no text takes more than it may, however few characters it has`() throws {
    let text = "a" + String(repeating: "\u{301}", count: 100_000)
    var state = try ReleaseTests.fleet(["a", "b"])
    _ = try state.report(ReportVersionRequest(robot: "a", error: text), now: 1)
    #expect(state.fleetVersions.serializedSize < 3_000)
    _ = try state.createRelease(
      version: "v1", robots: [], reason: text, guarded: false, salt: "s", now: 2)
    let experiment = try state.startExperiment(
      StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 5), seed: 1, salt: "s", now: 3)
    let candidate = try #require(state.experiments[experiment]).candidate.releaseID
    try state.rollBack(candidate, reason: text, alertID: "", evidence: text, salt: "s", now: 4)
    #expect(state.releases.values.allSatisfy { state.message(release: $0).serializedSize < 12_000 })
    #expect(state.experiments.values.allSatisfy { state.message(experiment: $0).serializedSize < 3_000 })
  }

  @Test func `the content of a version is named, and a robot with other content is not done`() throws {
    var state = try ReleaseTests.fleet(["a"])
    let (hash, other) = ([UInt8](repeating: 7, count: 32), [UInt8](repeating: 8, count: 32))
    try state.pin("v1", to: String(repeating: "07", count: 32))
    let id = try self.release(&state, "v1", now: 2)
    let desired = state.desired("a")
    #expect(desired.manifestSha256 == hash)
    var report = ReportVersionRequest(robot: "a", version: "v1", following: desired, manifestSha256: other)
    _ = try state.report(report, now: 3)
    #expect(state.releases[id]?.state == .rollingOut)
    report.manifestSha256 = hash
    _ = try state.report(report, now: 4)
    #expect(state.releases[id]?.state == .complete)
    #expect(throws: RolloutError.self) { try state.pin("v1", to: String(repeating: "08", count: 32)) }
    state.pins["v1"] = RolloutState.lostContent
    #expect(throws: RolloutError.self) { try state.pin("v1", to: String(repeating: "07", count: 32)) }
    // Adopted by another rollout, it is still that content.
    var lost = RolloutState()
    _ = try lost.report(report, now: 5)
    #expect(lost.desired("a").manifestSha256 == hash)
  }
}

@Suite("Rollbacks, until all are restored")
struct RestoredTests {
  /// Robots on "bad", which was taken back in favour of "v1" at 30.
  private func takenBack(_ names: [String]) throws -> (state: RolloutState, bad: String) {
    var state = try ReleaseTests.fleet(names)
    state.limits.reachableNanos = 100
    _ = try ReleaseTests.release(&state, "v1")
    try ReleaseTests.obey(&state, now: 20)
    let bad = try ReleaseTests.release(&state, "bad", now: 21)
    try ReleaseTests.obey(&state, now: 22)
    try state.rollBack(bad, reason: "r", alertID: "", evidence: "", salt: "s", now: 30)
    return (state, bad)
  }

  @Test func `after a restart a robot counts as within reach until its time is over`() throws {
    let folder = try TemporaryFolder()
    let bad: String
    do {
      let store = try RolloutStore(folder: folder.path)
      let (state, id) = try self.takenBack(["a", "b"])
      try store.save(state, replacing: RolloutState())
      bad = id
    }
    var state = try RolloutStore(folder: folder.path).load()
    state.limits.reachableNanos = 100
    // The wall clock went on for an hour, this process for 10 ns.
    let hour: Int64 = 3_600_000_000_000
    try ReleaseTests.obey(&state, ["a"], now: Moment(unixNanos: hour, uptimeNanos: 10))
    #expect(state.releases[bad]?.restoredUnixNanos == 0, "b has not been heard of yet")
    state.settle(now: Moment(unixNanos: hour + 1, uptimeNanos: 100))
    #expect(state.releases[bad]?.restoredUnixNanos == 0)
    state.settle(now: Moment(unixNanos: hour + 2, uptimeNanos: 101))
    #expect(state.releases[bad]?.restoredUnixNanos == hour + 2)
  }

  @Test func `a jump of the wall clock puts nobody out of reach`() throws {
    var (state, bad) = try self.takenBack(["a", "b"])
    try ReleaseTests.obey(&state, ["a"], now: 31)
    state.settle(now: Moment(unixNanos: 1_000_000, uptimeNanos: 40))
    #expect(state.releases[bad]?.restoredUnixNanos == 0)
  }

  @Test func `a robot that comes back as it was unsays the restoration until it is done`() throws {
    var (state, bad) = try self.takenBack(["a", "b"])
    try ReleaseTests.obey(&state, ["a"], now: 31)
    state.settle(now: 200)
    #expect(state.releases[bad]?.restoredUnixNanos == 200)
    _ = try state.report(ReportVersionRequest(robot: "b", version: "bad"), now: 210)
    #expect(state.releases[bad]?.restoredUnixNanos == 0)
    try ReleaseTests.obey(&state, now: 220)
    #expect(state.releases[bad]?.restoredUnixNanos == 220)
    // What a later release still waits for is none of this one's.
    _ = try ReleaseTests.release(&state, "v2", now: 230)
    #expect(state.releases[bad]?.restoredUnixNanos == 220)
    _ = try state.report(ReportVersionRequest(robot: "b", version: "bad"), now: 240)
    #expect(state.releases[bad]?.restoredUnixNanos == 0, "but acting with what was taken back is")
  }
}
