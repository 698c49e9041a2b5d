import Logging
import Schemas
import ServiceKit
import Statistics
import Synchronization
import TestSupport
import Testing

@testable import MonitorCore

/// Rollout's database is lost or older, or the monitor's is: what rollout does not say goes on is watched no more.
@Suite struct LostRolloutTests {
  @Test func `a release that rollout does not know leaves no watch and no alert`() async throws {
    let folder = try TemporaryFolder()
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let monitor = try Monitor(
      store: MonitorStore(folder: folder.path), metrics: MetricsRegistry(), vitals: Vitals(), logger: logger)
    for release in ["known", "ended", "lost"] {
      try await monitor.change { state, now, _ throws(MonitorError) in
        try state.watch(
          WatchReleaseRequest(releaseID: release, modelVersion: "v2", baselineVersion: "v1"),
          now: now)
      }
      for trials in UInt64(1)...12 {
        try await monitor.judge(
          release,
          cells: [
            OutcomeCount(task: "reach", modelVersion: "v1", successes: 18, trials: 20, releaseID: "r1"),
            OutcomeCount(task: "reach", modelVersion: "v2", successes: 0, trials: trials, releaseID: release),
          ])
      }
    }
    #expect(await monitor.snapshot.alerts.list(includeResolved: false).count == 3)
    var intervals = MonitorRounds.Intervals()
    intervals.page = .milliseconds(5)
    let description = RolloutDescription(releases: [
      Release(releaseID: "known", version: "v2", state: .complete),
      Release(releaseID: "ended", version: "v2", state: .rolledBack),
    ])
    let rounds = MonitorRounds(
      monitor: monitor,
      peers: MonitorPeers(
        publishAlert: { _ in }, publishDirective: { _ in }, summarize: { _ in [] },
        listTrials: { _ in ListTrialsResponse() }, describeRollout: { description }),
      board: StatusBoard(metrics: MetricsRegistry()), intervals: intervals, logger: logger)
    let working = Task { try await rounds.run() }
    defer { working.cancel() }
    try await eventually("what goes on is watched alone", within: .seconds(20)) {
      await monitor.snapshot.activeWatches.map(\.releaseID) == ["known"]
    }
    #expect(await monitor.snapshot.alerts.list(includeResolved: false).map(\.releaseID) == ["known"])
  }
}
