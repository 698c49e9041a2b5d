import Logging
import Schemas
import ServiceKit
import Storage
import TestSupport
import Testing

@testable import MonitorCore

@Suite("A monitor with damaged records")
struct DamagedRecordTests {
  private static let watch = WatchReleaseRequest(
    releaseID: "r2", modelVersion: "v2", baselineVersion: "v1")

  /// A robot with six failures, which has an alert, and a watch.
  private func state() throws -> MonitorState {
    var state = MonitorState()
    for trial in 1...6 {
      state.hear(robot: "a", trialID: "t\(trial)", outcome: .failure, salt: "s", now: 1)
    }
    try state.watch(Self.watch, now: 1)
    state.cursor = TrialCursor(robot: "a", trialID: "t6")
    return state
  }

  @Test(arguments: ["robot", "watch", "place", "alert"])
  func `one costs itself, is told with its file, and what it told comes back`(table: String) async throws {
    let folder = try TemporaryFolder()
    let before = try self.state()
    _ = try MonitorStore(folder: folder.path).save(before, replacing: MonitorState())
    do {
      let id =
        switch table {
        case "robot": "a"
        case "watch": "r2"
        case "place": "outcomes"
        default: try #require(before.alerts.alerts.keys.first)
        }
      let store = try RecordStore(
        folder: folder.path, name: "monitor", tables: ["robot", "watch", "place", "alert"])
      var changes = RecordStore.Changes()
      // A text where bytes belong, bytes where a text does.
      if table == "alert" {
        try changes.put("no alert", id: id, in: table)
      } else {
        changes.put([UInt8](repeating: 0xFF, count: 2), id: id, in: table)
      }
      try store.apply(changes)
    }
    let vitals = Vitals()
    let monitor = try Monitor(
      store: MonitorStore(folder: folder.path), metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try await monitor.tick()
    let row = try #require(await monitor.services.first { $0.service == "monitor" })
    #expect(row.state == .notServing && row.detail.contains("\(folder.path)/monitor.sqlite"))
    let loaded = await monitor.snapshot
    #expect((loaded.robots == before.robots) == (table != "robot"))
    #expect((loaded.watches == before.watches) == (table != "watch"))
    #expect((loaded.cursor == before.cursor) == (table != "place"))
    #expect((loaded.alerts.alerts == before.alerts.alerts) == (table != "alert"))
    // Rollout tells its watches again; ingest's list is read again, and no trial counts twice.
    try await monitor.change { state, now, salt throws(MonitorError) in
      try state.watch(Self.watch, now: now)
      for trial in 1...6 {
        state.hear(robot: "a", trialID: "t\(trial)", outcome: .failure, salt: salt, now: now)
      }
    }
    let after = await monitor.snapshot
    #expect(after.robots["a"]?.consecutiveFailures == 6 && after.robots["a"]?.isHealthy == false)
    #expect(after.activeWatches.map(\.releaseID) == ["r2"])
  }
}
