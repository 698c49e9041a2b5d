import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@testable import MonitorCore

@Suite("A monitor whose database fails")
struct DatabaseTests {
  /// Keeps what it is given last, and can be told to fail; as the real one, it writes nothing where only presence differs.
  private final class Store: MonitorStoring {
    private let isFull = Mutex(false)
    private let last = Mutex<MonitorState?>(nil)
    private let tries = Mutex(0)

    /// What was stored last.
    var kept: MonitorState? { self.last.withLock { $0 } }

    /// Saves that were tried.
    var attempts: Int { self.tries.withLock { $0 } }

    func set(full: Bool) { self.isFull.withLock { $0 = full } }

    func damages() -> [String] { [] }
    func load() throws(MonitorError) -> MonitorState { MonitorState() }

    func save(_ new: MonitorState, replacing old: MonitorState) throws(MonitorError) -> Bool {
      self.tries.withLock { $0 += 1 }
      guard
        new.robots != old.robots || new.watches != old.watches || new.cursor != old.cursor
          || new.alerts != old.alerts
      else { return false }
      if self.isFull.withLock({ $0 }) { throw MonitorError(.storage, "The test's disk is full.") }
      self.last.withLock { $0 = new }
      return true
    }
  }

  private static let broken = [BrokenPart(part: "database", reason: "The test's disk is full.")]

  private func monitor(_ store: Store, _ vitals: Vitals) throws -> Monitor {
    try Monitor(
      store: store, metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  private static func beat(_ robot: String, _ state: RobotState = .idle) -> TelemetryEvent {
    TelemetryEvent(event: .heartbeat(Heartbeat(robot: robot, state: state)))
  }

  @Test func `it says that it cannot work until its state can be written again`() async throws {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    try await monitor.hear(Self.beat("a"))
    store.set(full: true)
    try await monitor.hear(Self.beat("a", .stopped))
    #expect(vitals.broken == Self.broken)
    // Where nothing had to be written, nobody knows whether it could be.
    try await monitor.hear(Self.beat("a"))
    #expect(vitals.broken == Self.broken)
    store.set(full: false)
    try await monitor.hear(Self.beat("a", .stopped))
    try await monitor.tick()
    #expect(vitals.broken.isEmpty)
  }

  @Test func `a database that works again is known to, though nothing new has to be written`() async throws {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    try await monitor.hear(Self.beat("a", .stopped))
    let alert = try #require(await monitor.snapshot.alerts.list(includeResolved: false).first)
    store.set(full: true)
    // Somebody acknowledges, is told that it cannot be stored, and does not try again.
    await #expect(throws: MonitorError.self) {
      _ = try await monitor.change { state, _, _ throws(MonitorError) in
        try state.alerts.acknowledge(alert.alertID, by: "ana")
      }
    }
    await #expect(throws: MonitorError.self) { try await monitor.tick() }
    #expect(vitals.broken == Self.broken)
    store.set(full: false)
    try await monitor.tick()
    #expect(vitals.broken.isEmpty)
  }

  @Test func `what is seen is shown and told though it cannot be stored, and stored once it can`()
    async throws
  {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    try await monitor.hear(Self.beat("a", .working))
    try await monitor.hear(HealthAnswer.serving, of: "ingest")
    store.set(full: true)
    try await monitor.hear(Self.beat("a", .stopped))
    try await monitor.hear(HealthAnswer.notServing("disk"), of: "ingest")
    let event = SafetyEvent(robot: "a", kind: "orders-lost", detail: "disk", session: 1, number: 1)
    try await monitor.hear(TelemetryEvent(event: .safety(event)))
    try await monitor.hear(Self.beat("b"))
    #expect(await monitor.rows.map(\.robot) == ["a", "b"])
    #expect(await monitor.rows.map(\.state) == [.stopped, .idle])
    #expect(await monitor.services.first { $0.service == "ingest" }?.state != .serving)
    #expect(await monitor.snapshot.alerts.list(includeResolved: false).contains { $0.robot == "a" })
    // Nobody is told that it is kept.
    await #expect(throws: MonitorError.self) {
      _ = try await monitor.hear(ReportSafetyRequest(robot: "a", events: [event]))
    }
    await #expect(throws: MonitorError.self) { try await monitor.tick() }
    store.set(full: false)
    try await monitor.tick()
    #expect(vitals.broken.isEmpty)
    #expect(try await monitor.hear(ReportSafetyRequest(robot: "a", events: [event])) == 1)
    #expect(store.kept?.robots.keys.sorted() == ["a", "b"])
    #expect(store.kept?.alerts.list(includeResolved: false).contains { $0.robot == "a" } == true)
  }

  @Test func `heartbeats do not try a disk that refuses again and again`() async throws {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    store.set(full: true)
    try await monitor.hear(Self.beat("a"))
    await #expect(throws: MonitorError.self) { try await monitor.tick() }
    let before = store.attempts
    for beat in 1...100 { try await monitor.hear(Self.beat("a", beat.isMultiple(of: 2) ? .idle : .working)) }
    #expect(store.attempts == before)
    #expect(await monitor.rows.map(\.state) == [.idle])
    // Each tick tries once.
    await #expect(throws: MonitorError.self) { try await monitor.tick() }
    #expect(store.attempts == before + 1)
    store.set(full: false)
    try await monitor.tick()
    #expect(vitals.broken.isEmpty)
    #expect(store.kept?.robots.keys.sorted() == ["a"])
  }

  @Test func `a release is guarded, and its guard ends, though nothing can be stored`() async throws {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    store.set(full: true)
    try await monitor.hear(
      WatchReleaseRequest(releaseID: "r2", modelVersion: "v2", baselineVersion: "v1"))
    #expect(vitals.broken == Self.broken)
    for trials in UInt64(1)...12 {
      try await monitor.judge(
        "r2",
        cells: [
          OutcomeCount(task: "reach", modelVersion: "v1", successes: 18, trials: 20, releaseID: "r1"),
          OutcomeCount(task: "reach", modelVersion: "v2", successes: 0, trials: trials, releaseID: "r2"),
        ])
    }
    #expect(
      await monitor.snapshot.alerts.list(includeResolved: false).map(\.name) == ["SuccessRateRegression"])
    try await monitor.hear([], watching: await monitor.snapshot.activeWatches)
    #expect(await monitor.snapshot.activeWatches.isEmpty)
    #expect(await monitor.snapshot.alerts.list(includeResolved: false).isEmpty)
  }

  @Test func `the page says that the state cannot be written`() async throws {
    let store = Store()
    let vitals = Vitals()
    let monitor = try self.monitor(store, vitals)
    // An alert that somebody took note of: each tick wants to resolve it.
    try await monitor.hear(
      TelemetryEvent(event: .safety(SafetyEvent(robot: "a", kind: "orders-lost", detail: "disk"))))
    let alert = try #require(await monitor.snapshot.alerts.list(includeResolved: false).first)
    _ = try await monitor.change { state, _, _ throws(MonitorError) in
      try state.alerts.acknowledge(alert.alertID, by: "ana")
    }
    store.set(full: true)
    let board = StatusBoard(metrics: MetricsRegistry())
    var intervals = MonitorRounds.Intervals()
    intervals.tick = .milliseconds(5)
    let rounds = MonitorRounds(
      monitor: monitor,
      peers: MonitorPeers(
        publishAlert: { _ in }, publishDirective: { _ in }, summarize: { _ in [] },
        listTrials: { _ in ListTrialsResponse() }, describeRollout: { RolloutDescription() }),
      board: board, intervals: intervals, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let working = Task { try await rounds.run() }
    defer { working.cancel() }
    try await eventually("the page tells why", within: .seconds(20)) {
      String(decoding: board.json, as: UTF8.self).contains("database: The test's disk is full.")
    }
  }
}
