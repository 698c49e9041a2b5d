import Bus
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Storage
import TestSupport
import Testing

@testable import MonitorCore

@Suite("What robots report, as a value")
struct SafetyReportTests {
  private static func event(
    _ number: UInt64, _ kind: String = "orders-lost", robot: String = "a", session: UInt64 = 7
  ) -> SafetyEvent {
    SafetyEvent(robot: robot, kind: kind, detail: "event \(number)", session: session, number: number)
  }

  @discardableResult
  private func report(_ state: inout MonitorState, _ events: SafetyEvent...) throws -> UInt64 {
    try state.hear(
      ReportSafetyRequest(robot: events.first?.robot ?? "a", events: events), salt: "s", now: 1)
  }

  /// As an operator does, so that the same would be told anew.
  private func acknowledgeAll(_ state: inout MonitorState) throws {
    for alert in state.alerts.list(includeResolved: false) {
      _ = try state.alerts.acknowledge(alert.alertID, by: "ana")
    }
    state.tick(salt: "s", now: 2, instant: .now)
    #expect(state.alerts.list(includeResolved: false).isEmpty)
  }

  @Test func `an event that is reported again is told once, also by a monitor that was restarted`() throws {
    let folder = try TemporaryFolder()
    var state = MonitorState()
    #expect(try self.report(&state, Self.event(1), Self.event(2, "action-clipped")) == 2)
    try self.acknowledgeAll(&state)
    _ = try MonitorStore(folder: folder.path).save(state, replacing: MonitorState())
    state = try MonitorStore(folder: folder.path).load()
    #expect(try self.report(&state, Self.event(1), Self.event(2, "action-clipped")) == 2)
    // Published, it is the same.
    state.hear(Self.event(1), salt: "s", now: 3)
    #expect(state.alerts.list(includeResolved: true).count == 1)
    #expect(try self.report(&state, Self.event(2, "action-clipped"), Self.event(3)) == 3)
    #expect(state.alerts.list(includeResolved: false).map(\.summary).count { $0.contains("event 3") } == 1)
  }

  /// Alerts are listed and robots are shown all in one: one that is too large would hide all others.
  @Test func `no text takes more than it may, however few characters it has`() throws {
    let text = "a" + String(repeating: "\u{301}", count: 100_000)
    var state = MonitorState()
    for (index, kind) in ["stop", "orders-lost", "trial-lost", "versions-lost", "work-held"].enumerated() {
      let event = SafetyEvent(
        robot: "a", kind: kind, detail: text, session: 7, number: UInt64(index + 1))
      try self.report(&state, event)
    }
    let heartbeat = Heartbeat(
      robot: "b", facility: text, state: .stopped, desiredVersion: text, installError: text, stopReason: text)
    state.hear(heartbeat, salt: "s", now: 1)
    state.hear(.notServing(text), of: "ingest", salt: "s", now: 1)
    let alerts = state.alerts.list(includeResolved: false)
    #expect(alerts.count == 8)
    for alert in alerts { _ = try state.alerts.acknowledge(alert.alertID, by: text) }
    #expect(state.alerts.list(includeResolved: false).allSatisfy { $0.serializedSize < 3_000 })
    state.robots["b"]?.isHealthy = false
    #expect(try state.resume("b", by: text, reason: text, now: 2))
    #expect(state.robots.values.allSatisfy { $0.reason.utf8.count < 1_000 })
    #expect(state.rows(counts: [:]).allSatisfy { $0.serializedSize < 5_000 })
    #expect(state.services.values.allSatisfy { $0.row.serializedSize < 3_000 })
  }

  @Test func `a damaged alert costs itself and is told`() throws {
    let folder = try TemporaryFolder()
    var state = MonitorState()
    try self.report(&state, Self.event(1))
    try self.report(&state, Self.event(1, robot: "b"))
    _ = try MonitorStore(folder: folder.path).save(state, replacing: MonitorState())
    let alerts = state.alerts.alerts
    #expect(alerts.count == 2)
    let id = try #require(alerts.keys.min())
    do {
      let records = try RecordStore(folder: folder.path, name: "monitor", tables: ["alert"])
      var changes = RecordStore.Changes()
      changes.put([UInt8](repeating: 0xFF, count: 1), id: id, in: "alert")
      try records.apply(changes)
    }
    let store = try MonitorStore(folder: folder.path)
    #expect(Set(try store.load().alerts.alerts.keys) == Set(alerts.keys).subtracting([id]))
    #expect(try store.damages().count == 1 && store.damages()[0].contains("alert record '\(id)'"))
  }

  @Test func `numbers begin anew with the agent, and what the one before sent late is known`() throws {
    var state = MonitorState()
    try self.report(&state, Self.event(5, session: 7))
    try self.acknowledgeAll(&state)
    #expect(try self.report(&state, Self.event(1, session: 8)) == 1)
    #expect(state.alerts.list(includeResolved: true).count == 2)
    try self.acknowledgeAll(&state)
    try self.report(&state, Self.event(5, session: 7))
    #expect(state.alerts.list(includeResolved: true).count == 2)
    for session in 9..<100 as Range<UInt64> {
      try self.report(&state, Self.event(1, "action-clipped", session: session))
    }
    #expect(state.robots["a"]?.eventSessions?.count == RobotEntry.rememberedSessions)
  }

  @Test func `each kind of loss has an alert of its own, that ends by being acknowledged`() throws {
    var state = MonitorState()
    let kinds = [
      "orders-lost", "trial-lost", "versions-lost", "reports-lost", "work-held", "stop", "action-clipped",
    ]
    for number in 1...20 as ClosedRange<UInt64> {
      for (index, kind) in kinds.enumerated() {
        try self.report(&state, Self.event(number * 10 + UInt64(index), kind))
      }
    }
    let open = state.alerts.list(includeResolved: false)
    #expect(
      open.map(\.name).sorted() == [
        "SafetyStop", "VersionsLost", "WorkHeld", "WorkLost", "WorkLost", "WorkLost",
      ])
    #expect(open.filter { $0.name == "WorkLost" }.map(\.subject).sorted() == ["orders", "reports", "trials"])
    #expect(open.first { $0.subject == "trials" }?.remedy.contains("spool/refused") == true)
    state.hear(Heartbeat(robot: "a", state: .idle), salt: "s", now: 2)
    try self.acknowledgeAll(&state)
  }

  @Test func `a report that makes no sense is refused, and changes nothing`() throws {
    let many = (1...MonitorState.reportedEvents + 1).map { Self.event(UInt64($0)) }
    let reports = [
      ReportSafetyRequest(robot: "a"),
      ReportSafetyRequest(robot: "a", events: many),
      ReportSafetyRequest(robot: "a", events: [Self.event(1, robot: "b")]),
      ReportSafetyRequest(robot: "a", events: [Self.event(1), Self.event(2, session: 8)]),
      ReportSafetyRequest(robot: "a", events: [Self.event(2), Self.event(2)]),
      ReportSafetyRequest(robot: "a", events: [Self.event(1, session: 0)]),
      ReportSafetyRequest(robot: "a/b", events: [Self.event(1, robot: "a/b")]),
    ]
    for report in reports {
      var state = MonitorState()
      let error = #expect(throws: MonitorError.self) { try state.hear(report, salt: "s", now: 1) }
      #expect(error?.code == .invalid)
      #expect(state == MonitorState())
    }
  }

  @Test func `robots that nobody knows are bounded, and what is dropped is counted and shown`() throws {
    var state = MonitorState()
    state.limits.strangers = 10
    for round in 0..<3 {
      for index in 0..<100 {
        state.hear(SafetyEvent(robot: "r\(index)", kind: "stop"), salt: "s", now: Int64(round))
      }
    }
    #expect(state.robots.count == 10)
    #expect(state.alerts.list(includeResolved: true).count == 10)
    #expect(state.droppedEvents == 270)
    let error = #expect(throws: MonitorError.self) { try self.report(&state, Self.event(1, robot: "r50")) }
    #expect(error?.code == .busy, "it keeps its events")
    var facts = StatusBoard.Facts()
    facts.state = state
    let metrics = MetricsRegistry()
    StatusReport(facts).record(in: metrics)
    #expect(StatusReport(facts).droppedEvents == 270)
    #expect(metrics.renderPrometheus().contains("fleetloop_safety_events_dropped 270.0"))
    // One that sends heartbeats is known, and makes room where it was a stranger.
    for robot in ["r50", "r0"] { state.hear(Heartbeat(robot: robot, state: .idle), salt: "s", now: 1) }
    #expect(try self.report(&state, Self.event(1, robot: "r50")) == 1)
    #expect(try self.report(&state, Self.event(1, robot: "r51")) == 1)
  }

  @Test func `a robot reports for itself only`() async throws {
    let folder = try TemporaryFolder()
    let monitor = try Monitor(
      store: MonitorStore(folder: folder.path), metrics: MetricsRegistry(), vitals: Vitals(),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let endpoint = MonitorEndpoint(monitor: monitor)
    let report = ReportSafetyRequest(robot: "a", events: [Self.event(1)])
    try await withServerContextRPCCancellationHandle { cancellation async throws -> Void in
      var context = ServerContext(
        descriptor: MonitorService.Method.ReportSafety.descriptor, remotePeer: "test", localPeer: "test",
        cancellation: cancellation)
      context.transportSpecific = PeerIdentity(name: "b", role: .robot)
      let foreign = context
      let error = await #expect(throws: RPCError.self) {
        try await endpoint.reportSafety(request: report, context: foreign)
      }
      #expect(error?.code == .permissionDenied)
      context.transportSpecific = PeerIdentity(name: "a", role: .robot)
      #expect(try await endpoint.reportSafety(request: report, context: context).number == 1)
    }
    #expect(AccessPolicy.fleet.mayCall("fleetloop.v1.MonitorService/ReportSafety", as: .robot))
    #expect(!AccessPolicy.fleet.mayCall("fleetloop.v1.MonitorService/ResumeRobot", as: .robot))
  }
}
