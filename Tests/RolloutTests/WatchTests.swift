import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@testable import RolloutCore

@Suite("Watches")
struct WatchTests {
  /// A monitor that knows what it was told.
  private final class MonitorDouble: Sendable {
    let watched = Mutex<Set<String>>([])
    @Sendable func watch(_ request: WatchReleaseRequest) {
      self.watched.withLock {
        if request.active { $0.insert(request.releaseID) } else { $0.remove(request.releaseID) }
      }
    }
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

  @Test func `a monitor that lost its state is told again what to watch, and what not`() async throws {
    let folder = try TemporaryFolder()
    let monitor = MonitorDouble()
    let logger = Logger(label: "test")
    let rollout = try Rollout(
      store: RolloutStore(folder: folder.path), metrics: MetricsRegistry(), vitals: Vitals(), logger: logger)
    _ = try await rollout.report(ReportVersionRequest(robot: "a"))
    func release(_ version: String) async throws -> String {
      try await rollout.change { state, occasion throws(RolloutError) in
        try state.createRelease(
          version: version, robots: [], reason: "", guarded: true, salt: occasion.salt, now: occasion.now)
      }
    }
    let ended = try await release("v1")
    let active = try await release("v2")
    var intervals = RolloutRounds.Intervals()
    intervals.alerts = .milliseconds(5)
    intervals.looksToAllWatches = 3
    let rounds = RolloutRounds(
      rollout: rollout,
      peers: RolloutPeers(
        publish: { _ in }, summarize: { _ in SummarizeOutcomesResponse() }, watch: monitor.watch,
        alerts: { [] }),
      intervals: intervals, logger: logger)
    let working = Task { await rounds.work() }
    defer { working.cancel() }
    try await eventually("it is told") { monitor.watched.withLock { $0 == [active] } }
    monitor.watched.withLock { $0 = [] }
    try await eventually("it is told again") { monitor.watched.withLock { $0 == [active] } }
    // One with an older copy of its state watches what has ended, and says so by an alert.
    monitor.watched.withLock { $0 = [ended, active] }
    try await rollout.hear(Alert(name: "SuccessRateRegression", state: .firing, releaseID: ended))
    try await eventually("it no longer watches what ended") { monitor.watched.withLock { $0 == [active] } }
    #expect(await rollout.snapshot.releases[ended]?.state == .superseded)
  }
}
