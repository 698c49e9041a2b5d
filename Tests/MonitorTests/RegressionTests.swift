import Schemas
import Statistics
import Testing

@testable import MonitorCore

@Suite("Regression of a release, as a value")
struct RegressionTests {
  private func watching(_ baseline: String = "v1") throws -> MonitorState {
    var state = MonitorState()
    try state.watch(
      WatchReleaseRequest(releaseID: "r2", modelVersion: "v2", baselineVersion: baseline),
      now: 1)
    return state
  }

  /// Rollout lists no release that goes on.
  private func end(_ state: inout MonitorState, now: Int64) {
    state.endWatches(among: state.activeWatches, butOf: [], now: now)
  }

  private func cells(_ releaseSuccesses: UInt64, _ releaseTrials: UInt64) -> [OutcomeCount] {
    [
      OutcomeCount(task: "reach", modelVersion: "v1", successes: 18, trials: 20, releaseID: "r1"),
      OutcomeCount(
        task: "reach", modelVersion: "v2", successes: releaseSuccesses, trials: releaseTrials,
        releaseID: "r2"),
    ]
  }

  private func judge(_ state: inout MonitorState, _ cells: [OutcomeCount]) {
    state.judge("r2", cells: cells, rule: RegressionWatch(), salt: "s", now: 2)
  }

  @Test func `a bad release raises an alert that says why`() throws {
    var state = try self.watching()
    for trials in UInt64(1)...12 { self.judge(&state, self.cells(0, trials)) }
    let alert = try #require(state.alerts.list(includeResolved: false).first)
    #expect(alert.name == "SuccessRateRegression")
    #expect(alert.releaseID == "r2")
    #expect(alert.modelVersion == "v2")
    #expect(alert.baselineVersion == "v1")
    #expect(alert.labels["release_id"] == "r2")
    #expect(Double(alert.labels["e_value"] ?? "") ?? 0 >= 100)
    #expect(state.alerts.list(includeResolved: true).count == 1)
    // The watch ends with the release: so does its alert.
    self.end(&state, now: 3)
    #expect(state.alerts.list(includeResolved: false).isEmpty)
    #expect(state.activeWatches.isEmpty)
  }

  @Test func `a watch may be told again at any time`() throws {
    let request = WatchReleaseRequest(
      releaseID: "r2", modelVersion: "v2", baselineVersion: "v1")
    var state = try self.watching()
    for trials in UInt64(1)...12 { self.judge(&state, self.cells(0, trials)) }
    let judged = state
    try state.watch(request, now: 5)
    #expect(state == judged)
    self.end(&state, now: 6)
    let ended = state
    self.end(&state, now: 8)
    self.judge(&state, self.cells(0, 12))
    #expect(state == ended)
  }

  /// Its successor was taken back, and its robots are with it again.
  @Test func `a release that goes on again is guarded again`() throws {
    let request = WatchReleaseRequest(
      releaseID: "r2", modelVersion: "v2", baselineVersion: "v1")
    var state = try self.watching()
    self.end(&state, now: 3)
    try state.watch(request, now: 4)
    #expect(state.activeWatches.map(\.releaseID) == ["r2"])
    for trials in UInt64(1)...12 { self.judge(&state, self.cells(0, trials)) }
    #expect(state.alerts.list(includeResolved: false).map(\.releaseID) == ["r2"])
  }

  /// The release before it was taken back.
  @Test func `a release is compared with what rollout said last`() throws {
    var state = try self.watching()
    for trials in UInt64(1)...12 { self.judge(&state, self.cells(0, trials)) }
    #expect(state.alerts.list(includeResolved: false).map(\.baselineVersion) == ["v1"])
    try state.watch(
      WatchReleaseRequest(releaseID: "r2", modelVersion: "v2", baselineVersion: "v0"), now: 4)
    #expect(state.activeWatches.map(\.baselineVersion) == ["v0"])
    // It said of another version what nobody asks any more.
    #expect(state.alerts.list(includeResolved: false).isEmpty)
    var cells = self.cells(0, 12)
    cells.append(OutcomeCount(task: "reach", modelVersion: "v0", successes: 20, trials: 20, releaseID: "r0"))
    self.judge(&state, cells)
    #expect(state.alerts.list(includeResolved: false).map(\.baselineVersion) == ["v0"])
  }

  @Test func `watches are bounded, ended ones are forgotten first`() throws {
    var state = MonitorState()
    for index in 0..<(3 * MonitorState.maximumWatches) {
      try state.watch(
        WatchReleaseRequest(releaseID: "x\(index)", modelVersion: "v"), now: Int64(index))
      self.end(&state, now: Int64(index))
    }
    #expect(state.watches.count == 2 * MonitorState.maximumWatches)
    for index in 0..<MonitorState.maximumWatches {
      try state.watch(WatchReleaseRequest(releaseID: "y\(index)"), now: 1)
    }
    #expect(throws: MonitorError.self) {
      try state.watch(WatchReleaseRequest(releaseID: "z"), now: 1)
    }
    #expect(state.watches.count == 2 * MonitorState.maximumWatches)
  }

  @Test func `a release as good as its predecessor raises none`() throws {
    var state = try self.watching()
    for trials in UInt64(1)...100 { self.judge(&state, self.cells(trials - trials / 10, trials)) }
    #expect(state.alerts.list(includeResolved: true).isEmpty)
  }

  @Test func `harder tasks are compared with the same tasks`() throws {
    var state = try self.watching()
    // The release did only the hard task, at the baseline's own rate there.
    self.judge(
      &state,
      [
        OutcomeCount(task: "easy", modelVersion: "v1", successes: 100, trials: 100, releaseID: "r1"),
        OutcomeCount(task: "hard", modelVersion: "v1", successes: 4, trials: 40, releaseID: "r1"),
        OutcomeCount(task: "hard", modelVersion: "v2", successes: 2, trials: 30, releaseID: "r2"),
      ])
    #expect(state.alerts.list(includeResolved: true).isEmpty)
  }

  @Test func `what is not watched or has no predecessor is not judged`() throws {
    var state = try self.watching("")
    self.judge(&state, self.cells(0, 100))
    state.judge("other", cells: self.cells(0, 100), rule: RegressionWatch(), salt: "s", now: 2)
    #expect(state.alerts.list(includeResolved: true).isEmpty)
    #expect(throws: MonitorError.self) {
      try state.watch(WatchReleaseRequest(releaseID: "a b"), now: 1)
    }
  }
}
