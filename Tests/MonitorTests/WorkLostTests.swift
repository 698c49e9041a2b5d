import Schemas
import Testing

@testable import MonitorCore

@Suite("Lost work, as a value")
struct WorkLostTests {
  private static func lost(_ robot: String, _ detail: String) -> SafetyEvent {
    SafetyEvent(robot: robot, kind: "orders-lost", detail: detail, timeUnixNanos: 1)
  }

  @Test func `work that a robot lost is told until it is acknowledged`() throws {
    var state = MonitorState()
    for _ in 0..<3 { state.hear(Self.lost("a", "orders.damaged-7 is no list"), salt: "s", now: 1) }
    state.hear(Self.lost("b", ""), salt: "s", now: 2)
    let open = state.alerts.list(includeResolved: false)
    #expect(open.map(\.name) == ["WorkLost", "WorkLost"])
    #expect(open.map(\.robot) == ["b", "a"])
    #expect(open.allSatisfy { $0.severity == .warning })
    let alert = try #require(open.last)
    #expect(alert.summary.contains("orders.damaged-7 is no list"))
    #expect(alert.remedy.contains("send the work again"))
    #expect(alert.remedy.contains("fleet alerts acknowledge \(alert.alertID)"))
    // Nothing else ends it: neither time nor that the robot works on.
    state.hear(Heartbeat(robot: "a", state: .idle), salt: "s", now: 3)
    state.tick(salt: "s", now: 3, instant: .now)
    #expect(state.alerts.list(includeResolved: false).filter { $0.name == "WorkLost" }.count == 2)
    _ = try state.alerts.acknowledge(alert.alertID, by: "ana")
    state.tick(salt: "s", now: 4, instant: .now)
    #expect(state.alerts.alerts[alert.alertID]?.state == .resolved)
    #expect(state.alerts.alerts[alert.alertID]?.resolvedUnixNanos == 4)
    // It may lose work again.
    state.hear(Self.lost("a", "again"), salt: "s", now: 5)
    #expect(state.alerts.list(includeResolved: false).first?.summary.contains("again") == true)
  }

  @Test func `trials that a robot lost one after the other are counted, and told again`() throws {
    var state = MonitorState()
    func lose(_ number: UInt64, _ trial: String) throws {
      let event = SafetyEvent(
        robot: "a", trialID: trial, kind: "trial-lost", detail: "\(trial) is damaged", session: 7,
        number: number)
      _ = try state.hear(ReportSafetyRequest(robot: "a", events: [event]), salt: "s", now: 1)
    }
    try lose(1, "t1")
    let first = try #require(state.alerts.list(includeResolved: false).first)
    #expect(!first.summary.contains("the last of"))
    _ = try state.alerts.acknowledge(first.alertID, by: "ana")
    // Before the next tick: who acknowledged one loss has not seen the others.
    try lose(2, "t2")
    try lose(2, "t2")
    try lose(3, "t3")
    state.tick(salt: "s", now: 2, instant: .now)
    let open = state.alerts.list(includeResolved: false)
    #expect(open.count == 1 && open.first?.state == .firing)
    #expect(open.first?.summary.contains("t3 is damaged That is the last of 3.") == true)
    #expect(open.first?.labels["times"] == "3")
  }

  @Test func `limits that held raise no alert`() {
    var state = MonitorState()
    for kind in ["action-clipped", "joint-limit", "not-finite", "", "no such kind"] {
      state.hear(SafetyEvent(robot: "a", kind: kind), salt: "s", now: 1)
    }
    #expect(state.alerts.list(includeResolved: true).isEmpty)
  }
}
