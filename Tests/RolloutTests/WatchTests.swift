import GRPCCore
import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@testable import RolloutCore

@Suite("Watches")
struct WatchTests {
  /// A monitor that knows what it was told: the baseline of each release that it watches.
  private final class MonitorDouble: Sendable {
    let watched = Mutex<[String: String]>([:])
    let refused: Set<String>
    let alert: Alert?

    init(refusing refused: Set<String> = [], alert: Alert? = nil) {
      self.refused = refused
      self.alert = alert
    }

    @Sendable func watch(_ request: WatchReleaseRequest) throws {
      if self.refused.contains(request.modelVersion) {
        throw RPCError(code: .resourceExhausted, message: "1000 releases are watched already")
      }
      self.watched.withLock { $0[request.releaseID] = request.baselineVersion }
    }
  }

  private func rollout(_ folder: TemporaryFolder, robots: [String]) async throws -> Rollout {
    let rollout = try Rollout(
      store: RolloutStore(folder: folder.path), metrics: MetricsRegistry(), vitals: Vitals(),
      logger: Logger(label: "test"))
    for robot in robots { _ = try await rollout.report(ReportVersionRequest(robot: robot)) }
    return rollout
  }

  private func release(
    _ version: String, to robots: [String] = [], guarded: Bool = true, _ rollout: Rollout
  ) async throws -> String {
    try await rollout.change { state, occasion throws(RolloutError) in
      try state.createRelease(
        version: version, robots: robots, reason: "", guarded: guarded, salt: occasion.salt, now: occasion.now
      )
    }
  }

  private func rounds(_ rollout: Rollout, _ monitor: MonitorDouble) -> RolloutRounds {
    var intervals = RolloutRounds.Intervals()
    intervals.alerts = .milliseconds(5)
    intervals.looksToAllWatches = 3
    return RolloutRounds(
      rollout: rollout,
      peers: RolloutPeers(
        publish: { _ in }, summarize: { _ in SummarizeOutcomesResponse() }, watch: monitor.watch,
        alerts: { monitor.alert.map { [$0] } ?? [] }),
      intervals: intervals, logger: Logger(label: "test"))
  }

  @Test func `an alert behind a thousand newer ones is found`() async throws {
    let asked = Mutex<[String]>([])
    let alerts = try await RolloutPeers.allAlerts { request in
      asked.withLock { $0.append(request.pageToken) }
      let number = Int(request.pageToken) ?? 0
      return ListAlertsResponse(
        alerts: [Alert(alertID: "\(number)")], nextPageToken: number < 3 ? "\(number + 1)" : "")
    }
    #expect(alerts.map(\.alertID) == ["0", "1", "2", "3"])
    #expect(asked.withLock { $0 } == ["", "1", "2", "3"])
    // A monitor that never comes to an end is not asked for ever.
    let endless = try await RolloutPeers.allAlerts { _ in ListAlertsResponse(nextPageToken: "again") }
    #expect(endless.isEmpty)
  }

  @Test func `a monitor that lost its state is told again what to watch`() async throws {
    let folder = try TemporaryFolder()
    let monitor = MonitorDouble()
    let rollout = try await self.rollout(folder, robots: ["a"])
    let ended = try await self.release("v1", rollout)
    let active = try await self.release("v2", rollout)
    let working = Task { await self.rounds(rollout, monitor).work() }
    defer { working.cancel() }
    try await eventually("it is told") { monitor.watched.withLock { $0 == [active: "v1"] } }
    monitor.watched.withLock { $0 = [:] }
    try await eventually("it is told again") { monitor.watched.withLock { $0 == [active: "v1"] } }
    #expect(await rollout.snapshot.releases[ended]?.state == .superseded)
  }

  @Test func `a watch that the monitor refuses keeps no alert from being heard`() async throws {
    let folder = try TemporaryFolder()
    let rollout = try await self.rollout(folder, robots: ["a", "b", "c"])
    _ = try await self.release("v1", to: ["a"], rollout)
    let bad = try await self.release("v2", to: ["b"], rollout)
    let last = try await self.release("v3", to: ["c"], rollout)
    let monitor = MonitorDouble(
      refusing: ["v1"], alert: Alert(name: "SuccessRateRegression", state: .firing, releaseID: bad))
    let working = Task { await self.rounds(rollout, monitor).work() }
    defer { working.cancel() }
    try await eventually("it is taken back", within: .seconds(20)) {
      await rollout.snapshot.releases[bad]?.state == .rolledBack
    }
    try await eventually("the others are watched", within: .seconds(20)) {
      monitor.watched.withLock { $0[last] != nil }
    }
  }

  @Test func `the monitor is told when a release is compared with another version`() async throws {
    let folder = try TemporaryFolder()
    let rollout = try await self.rollout(folder, robots: ["a", "b"])
    _ = try await self.release("v0", guarded: false, rollout)
    let before = try await self.release("v1", guarded: false, rollout)
    let guarded = try await self.release("v2", to: ["a"], rollout)
    let monitor = MonitorDouble()
    let working = Task { await self.rounds(rollout, monitor).work() }
    defer { working.cancel() }
    try await eventually("it is told") { monitor.watched.withLock { $0 == [guarded: "v1"] } }
    try await rollout.change { state, occasion throws(RolloutError) in
      try state.rollBack(
        before, reason: "", alertID: "", evidence: "", salt: occasion.salt, now: occasion.now)
    }
    try await eventually("it is told of the other one", within: .seconds(20)) {
      monitor.watched.withLock { $0 == [guarded: "v0"] }
    }
  }
}
