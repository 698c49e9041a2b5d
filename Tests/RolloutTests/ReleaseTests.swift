import Schemas
import Testing

@testable import RolloutCore

@Suite("Releases, as a value")
struct ReleaseTests {
  /// Robots that have reported, none with a model.
  static func fleet(_ names: [String] = ["a", "b", "c", "d"]) throws -> RolloutState {
    var state = RolloutState()
    for name in names { _ = try state.report(ReportVersionRequest(robot: name), now: 1) }
    return state
  }

  /// Lets robots do what is desired and say so.
  static func obey(_ state: inout RolloutState, _ names: [String]? = nil, now: Moment) throws {
    for name in names ?? state.robots.keys.sorted() {
      let desired = state.desired(name)
      _ = try state.report(
        ReportVersionRequest(robot: name, version: desired.version, following: desired), now: now)
    }
  }

  static func release(
    _ state: inout RolloutState, _ version: String, to robots: [String] = [], guarded: Bool = false,
    now: Moment = 10
  ) throws -> String {
    try state.createRelease(
      version: version, robots: robots, reason: "test", guarded: guarded, salt: "s", now: now)
  }

  @Test func `a release is complete when every robot reported it`() throws {
    var state = try Self.fleet()
    let id = try Self.release(&state, "v1")
    #expect(state.message(release: state.releases[id]!).waiting == ["a", "b", "c", "d"])
    try Self.obey(&state, ["a", "b", "c"], now: 11)
    #expect(state.releases[id]?.state == .rollingOut)
    #expect(state.message(release: state.releases[id]!).waiting == ["d"])
    try Self.obey(&state, ["d"], now: 12)
    let message = state.message(release: state.releases[id]!)
    #expect(message.state == .complete)
    #expect(message.completedUnixNanos == 12)
    #expect(message.waiting.isEmpty)
  }

  @Test func `a request that comes again makes one release`() throws {
    var state = try Self.fleet()
    func ask(_ requestID: String) throws -> String {
      try state.createRelease(
        version: "v1", robots: [], reason: "", guarded: false, requestID: requestID, salt: "s", now: 5)
    }
    let first = try ask("r1")
    let after = state
    #expect(try ask("r1") == first)
    #expect(state == after)
    #expect(try ask("r2") != first)
    let (third, fourth) = (try ask(""), try ask(""))
    #expect(third != fourth)
    #expect(throws: RolloutError.self) { try ask(String(repeating: "x", count: 65)) }
  }

  @Test func `a report of the version under an old generation does not count`() throws {
    var state = try Self.fleet(["a"])
    _ = try Self.release(&state, "v1")
    let first = state.desired("a")
    let id = try Self.release(&state, "v1")
    _ = try state.report(ReportVersionRequest(robot: "a", version: "v1", following: first), now: 11)
    #expect(state.releases[id]?.state == .rollingOut)
    #expect(state.desired("a").epoch == first.epoch, "it is behind, and nothing is amiss")
    try Self.obey(&state, now: 12)
    #expect(state.releases[id]?.state == .complete)
  }

  @Test func `a robot that was away gets the version when it returns, and a new one joins the fleet's`()
    throws
  {
    var state = try Self.fleet(["a", "b"])
    let id = try Self.release(&state, "v1")
    try Self.obey(&state, ["a"], now: 11)
    let answer = try state.report(ReportVersionRequest(robot: "b"), now: 1_000)
    #expect(answer.version == "v1")
    #expect(answer.releaseID == id)
    let joined = try state.report(ReportVersionRequest(robot: "new"), now: 1_001)
    #expect(joined.version == "v1")
    #expect(joined.generation == 1)
    try state.rollBack(id, reason: "bad", alertID: "", evidence: "", salt: "s", now: 1_002)
    #expect(state.desired("new").version == "")
    #expect(state.desired("new").generation == 2)
  }

  @Test func `a rollback restores what each robot had, and keeps the evidence`() throws {
    var state = try Self.fleet()
    _ = try Self.release(&state, "v1", to: ["a", "b"])
    _ = try Self.release(&state, "v2", to: ["c"])
    let bad = try Self.release(&state, "bad", guarded: true)
    try Self.obey(&state, now: 20)
    try state.rollBack(bad, reason: "r", alertID: "alert-1", evidence: "0 of 9", salt: "s", now: 30)
    #expect(state.desired("a").version == "v1")
    #expect(state.desired("c").version == "v2")
    #expect(state.desired("d").version == "")
    try Self.obey(&state, ["a", "b", "c"], now: 31)
    #expect(state.releases[bad]?.restoredUnixNanos == 0)
    try Self.obey(&state, ["d"], now: 32)
    let message = state.message(release: state.releases[bad]!)
    #expect(message.state == .rolledBack)
    #expect(message.evidence == "0 of 9")
    #expect(message.alertID == "alert-1")
    #expect(message.rolledBackUnixNanos == 30)
    #expect(message.restoredUnixNanos == 32)
    #expect(message.previousVersion == "v1")
    // Again: nothing changes.
    let before = state
    try state.rollBack(bad, reason: "again", alertID: "", evidence: "", salt: "s", now: 40)
    #expect(state == before)
  }

  @Test func `a rollback does not wait for robots out of reach`() throws {
    var state = try Self.fleet(["a", "b"])
    state.limits.reachableNanos = 100
    _ = try Self.release(&state, "v1")
    try Self.obey(&state, now: 20)
    let bad = try Self.release(&state, "bad", now: 21)
    try Self.obey(&state, now: 22)
    try state.rollBack(bad, reason: "r", alertID: "", evidence: "", salt: "s", now: 30)
    try Self.obey(&state, ["a"], now: 31)
    state.settle(now: 100)
    #expect(state.releases[bad]?.restoredUnixNanos == 0)
    state.settle(now: 123)
    #expect(state.releases[bad]?.restoredUnixNanos == 123)
    #expect(state.desired("b").version == "v1")
    #expect(state.message(release: state.releases[bad]!).waiting == ["b"])
  }

  @Test func `nothing leads back to a release that was taken back`() throws {
    var state = try Self.fleet(["a", "b"])
    _ = try Self.release(&state, "v1")
    let bad = try Self.release(&state, "bad")
    let later = try Self.release(&state, "v3", to: ["a"])
    try state.rollBack(bad, reason: "r", alertID: "", evidence: "", salt: "s", now: 30)
    #expect(state.desired("a").version == "v3")
    #expect(state.desired("b").version == "v1")
    try state.rollBack(later, reason: "r", alertID: "", evidence: "", salt: "s", now: 31)
    #expect(state.desired("a").version == "v1")
    #expect(state.fleet.version == "v1")
  }

  @Test func `a release without robots is superseded, and comes back when its successor goes`() throws {
    var state = try Self.fleet(["a"])
    let first = try Self.release(&state, "v1")
    try Self.obey(&state, now: 11)
    let second = try Self.release(&state, "v2")
    #expect(state.releases[first]?.state == .superseded)
    #expect(throws: RolloutError.self) {
      try state.rollBack(first, reason: "r", alertID: "", evidence: "", salt: "s", now: 12)
    }
    try state.rollBack(second, reason: "r", alertID: "", evidence: "", salt: "s", now: 13)
    #expect(state.releases[first]?.state == .rollingOut)
    try Self.obey(&state, now: 14)
    #expect(state.releases[first]?.state == .complete)
  }

  @Test func `wrong requests change nothing and say why`() throws {
    var state = try Self.fleet(["a"])
    let before = state
    func code(_ body: () throws -> Void) -> RolloutError.Code? {
      do { try body() } catch { return (error as? RolloutError)?.code }
      return nil
    }
    #expect(code { _ = try Self.release(&state, "v1", to: ["x"]) } == .notFound)
    #expect(
      code { try state.rollBack("x", reason: "", alertID: "", evidence: "", salt: "", now: 1) } == .notFound)
    for name in ["", ".hidden", "a/b", "ä", String(repeating: "a", count: 65)] {
      #expect(code { _ = try state.report(ReportVersionRequest(robot: name), now: 1) } == .invalid)
    }
    state.limits.robots = 1
    #expect(code { _ = try state.report(ReportVersionRequest(robot: "b"), now: 1) } == .busy)
    state.limits = before.limits
    #expect(state == before)
    var empty = RolloutState()
    #expect(code { _ = try Self.release(&empty, "v1") } == .notNow)
  }

  @Test func `only a regression of a guarded release takes it back`() throws {
    var state = try Self.fleet(["a"])
    let plain = try Self.release(&state, "v1")
    #expect(
      state.releaseToTakeBack(
        for: Alert(name: "SuccessRateRegression", state: .firing, releaseID: plain)) == nil)
    let guarded = try Self.release(&state, "v2", guarded: true)
    var alert = Alert(
      name: "SuccessRateRegression", state: .firing, modelVersion: "v2", summary: "worse",
      labels: ["e_value": "120"], releaseID: guarded)
    #expect(state.releaseToTakeBack(for: alert) == guarded)
    #expect(RolloutState.evidence(of: alert) == "worse; e_value=120")
    alert.name = "RobotOffline"
    #expect(state.releaseToTakeBack(for: alert) == nil)
    alert.name = "SuccessRateRegression"
    alert.state = .resolved
    #expect(state.releaseToTakeBack(for: alert) == nil)
  }

  @Test func `random transitions keep what must always hold`() throws {
    var generator = SplitMix64(state: 11)
    for _ in 0..<60 {
      var state = try Self.fleet(["a", "b", "c", "d", "e"])
      for step in 0..<60 {
        let before = state
        let names = state.robots.keys.sorted()
        let some = names.shuffled(using: &generator).prefix(.random(in: 0...3, using: &generator)).sorted()
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: _ = try? Self.release(&state, "v\(step)", to: some, guarded: true, now: .at(step))
        case 1:
          if let id = state.releases.keys.sorted().randomElement(using: &generator) {
            try? state.rollBack(id, reason: "", alertID: "", evidence: "", salt: "", now: .at(step))
          }
        case 2: try Self.obey(&state, some, now: .at(step))
        default:
          _ = try? state.startExperiment(
            StartExperimentRequest(baseline: "x", candidate: "y", robots: some, trialsPerArm: 5),
            seed: UInt64(step), salt: "", now: .at(step))
        }
        for robot in state.robots.values {
          #expect(robot.generation >= before.robots[robot.name]!.generation)
          // Nobody acts under what was taken back, and each placement is one of a release.
          if robot.placement.releaseID.isEmpty {
            #expect(robot.placement.version == "")
          } else {
            #expect(state.releases[robot.placement.releaseID]?.isActive == true)
            #expect(state.releases[robot.placement.releaseID]?.version == robot.placement.version)
          }
          if robot.placement != before.robots[robot.name]!.placement {
            #expect(robot.generation > before.robots[robot.name]!.generation)
          }
        }
      }
    }
  }
}
