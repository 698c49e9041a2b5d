import Schemas
import Statistics
import Testing

@testable import RolloutCore

@Suite("Experiments, as a value")
struct ExperimentTests {
  private func started(trialsPerArm: UInt64 = 20) throws -> (state: RolloutState, id: String) {
    var state = try ReleaseTests.fleet()
    _ = try ReleaseTests.release(&state, "v1")
    try ReleaseTests.obey(&state, now: 11)
    let id = try state.startExperiment(
      StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: trialsPerArm), seed: 3,
      salt: "s", now: 12)
    return (state, id)
  }

  private func judge(
    _ state: inout RolloutState, _ id: String, _ baseline: (Int, Int), _ candidate: (Int, Int),
    endNow: Bool = false
  ) throws {
    try state.judge(
      id, baseline: Proportion(successes: baseline.0, trials: baseline.1),
      candidate: Proportion(successes: candidate.0, trials: candidate.1), endNow: endNow, salt: "s", now: 20)
  }

  @Test func `a request that comes again is the same experiment`() throws {
    var (state, _) = try self.started()
    let running = state
    state = try ReleaseTests.fleet()
    let request = StartExperimentRequest(
      baseline: "v1", candidate: "v2", trialsPerArm: 5, requestID: "r1")
    let id = try state.startExperiment(request, seed: 3, salt: "s", now: 12)
    let after = state
    #expect(try state.startExperiment(request, seed: 4, salt: "t", now: 13) == id)
    #expect(state == after)
    // Another request must wait until the experiment has ended.
    state = running
    #expect(throws: RolloutError.self) { try state.startExperiment(request, seed: 3, salt: "s", now: 14) }
  }

  @Test func `robots are split in halves, each with its version and release`() throws {
    let (state, id) = try self.started()
    let experiment = try #require(state.experiments[id])
    #expect(experiment.baseline.robots.count == 2)
    #expect(experiment.candidate.robots.count == 2)
    #expect(experiment.robots == ["a", "b", "c", "d"])
    for robot in experiment.candidate.robots {
      #expect(state.desired(robot).version == "v2")
      #expect(state.desired(robot).releaseID == experiment.candidate.releaseID)
    }
    for robot in experiment.baseline.robots { #expect(state.desired(robot).version == "v1") }
  }

  @Test func `the assignment is random, and can be drawn again from its seed`() {
    let names = (0..<10).map { "r\($0)" }
    let first = Assignment.split(names, share: 0.5, seed: 7)
    #expect(first == Assignment.split(names.reversed(), share: 0.5, seed: 7))
    #expect(Set(first.baseline).union(first.candidate) == Set(names))
    #expect(Assignment.split(names, share: 0.2, seed: 1).candidate.count == 2)
    #expect(Assignment.split(["a", "b"], share: 0.01, seed: 1).candidate.count == 1)
    var counts: [String: Int] = [:]
    for seed in 1...2_000 {
      for name in Assignment.split(names, share: 0.5, seed: UInt64(seed)).candidate {
        counts[name, default: 0] += 1
      }
    }
    // Each robot is a candidate in half of the draws: 1000 ± 4.5 standard deviations of 22.4.
    for name in names { #expect((900...1_100).contains(counts[name, default: 0])) }
  }

  @Test func `a better candidate goes to all`() throws {
    var (state, id) = try self.started()
    try self.judge(&state, id, (5, 19), (19, 30))
    #expect(state.experiments[id]?.state == .running)
    try self.judge(&state, id, (5, 20), (19, 20))
    #expect(state.experiments[id]?.decision == .promote)
    for robot in ["a", "b", "c", "d"] { #expect(state.desired(robot).version == "v2") }
    #expect(state.fleet.version == "v2")
    #expect(state.message(experiment: state.experiments[id]!).pValue < 0.001)
  }

  @Test func `a better candidate whose content is lost goes to nobody`() throws {
    var (state, id) = try self.started()
    state.pins["v2"] = RolloutState.lostContent
    let fleet = state.fleet
    try self.judge(&state, id, (5, 20), (19, 20))
    let experiment = try #require(state.experiments[id])
    #expect(experiment.decision == .inconclusive)
    #expect(experiment.explanation.contains("nobody knows its content"))
    for robot in ["a", "b", "c", "d"] { #expect(state.desired(robot).version == "v1") }
    #expect(state.fleet == fleet)
  }

  @Test func `a worse candidate is taken back and its evidence kept`() throws {
    var (state, id) = try self.started()
    try self.judge(&state, id, (19, 20), (5, 20))
    let experiment = try #require(state.experiments[id])
    #expect(experiment.decision == .rollback)
    for robot in ["a", "b", "c", "d"] { #expect(state.desired(robot).version == "v1") }
    let release = try #require(state.releases[experiment.candidate.releaseID])
    #expect(release.state == .rolledBack)
    #expect(release.evidence.contains("5/20"))
    try ReleaseTests.obey(&state, now: 21)
    #expect(state.releases[release.id]?.restoredUnixNanos == 21)
  }

  @Test func `data that does not decide is called so`() throws {
    var (state, id) = try self.started()
    try self.judge(&state, id, (15, 20), (16, 20))
    let message = state.message(experiment: try #require(state.experiments[id]))
    #expect(message.decision == .inconclusive)
    #expect(message.explanation.contains("does not decide"))
    #expect(message.candidate?.successes == 16)
    #expect(message.candidate.map { $0.successLow < 0.8 && $0.successHigh > 0.8 } == true)
    for robot in ["a", "b", "c", "d"] { #expect(state.desired(robot).version == "v1") }
    // Decided once: later counts change nothing.
    let before = state
    try self.judge(&state, id, (0, 99), (99, 99))
    #expect(state == before)
  }

  @Test func `ending early decides nothing`() throws {
    var (state, id) = try self.started()
    try self.judge(&state, id, (0, 19), (19, 19), endNow: true)
    #expect(state.experiments[id]?.decision == .inconclusive)
  }

  @Test func `other releases wait for the end, a rollback cancels`() throws {
    var (state, id) = try self.started()
    #expect(throws: RolloutError.self) { try ReleaseTests.release(&state, "v3", to: ["a"]) }
    #expect(throws: RolloutError.self) {
      try state.startExperiment(
        StartExperimentRequest(baseline: "v1", candidate: "v3", trialsPerArm: 5), seed: 1, salt: "", now: 13)
    }
    let candidate = try #require(state.experiments[id]).candidate.releaseID
    try state.rollBack(candidate, reason: "smoke", alertID: "", evidence: "", salt: "s", now: 14)
    #expect(state.experiments[id]?.state == .cancelled)
    for robot in ["a", "b", "c", "d"] { #expect(state.desired(robot).version == "v1") }
  }

  @Test(arguments: [
    StartExperimentRequest(baseline: "v1", candidate: "v1", trialsPerArm: 5),
    StartExperimentRequest(baseline: "v1", candidate: "v2"),
    StartExperimentRequest(baseline: "v1", candidate: "v2", candidateShare: 1, trialsPerArm: 5),
    StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 5, alpha: 0.9),
    StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 5, alpha: .nan),
    StartExperimentRequest(baseline: "v1", candidate: "v2", robots: ["a"], trialsPerArm: 5),
  ])
  func `what cannot be an experiment is refused`(request: StartExperimentRequest) throws {
    var state = try ReleaseTests.fleet()
    let before = state
    #expect(throws: RolloutError.self) {
      try state.startExperiment(request, seed: 1, salt: "", now: 1)
    }
    #expect(state == before)
  }

  @Test func `only trials of the arm's version under the arm's release count`() throws {
    let (state, id) = try self.started()
    let arm = try #require(state.experiments[id]).candidate
    let counts = [
      OutcomeCount(task: "t", modelVersion: "v2", successes: 3, trials: 4, releaseID: arm.releaseID),
      OutcomeCount(task: "u", modelVersion: "v2", successes: 1, trials: 2, releaseID: arm.releaseID),
      OutcomeCount(task: "t", modelVersion: "v1", successes: 9, trials: 9, releaseID: arm.releaseID),
      OutcomeCount(task: "t", modelVersion: "v2", successes: 9, trials: 9, releaseID: "other"),
    ]
    #expect(Rollout.proportion(counts, of: arm) == Proportion(successes: 4, trials: 6))
  }
}
