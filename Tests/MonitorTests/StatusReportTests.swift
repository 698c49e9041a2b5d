import Foundation
import Schemas
import ServiceKit
import Testing

@testable import MonitorCore

@Suite("StatusReport")
struct StatusReportTests {
  private func facts(alerts: Int) -> StatusBoard.Facts {
    var facts = StatusBoard.Facts()
    facts.state.alerts.raise(
      Alert(name: "SafetyStop", severity: .critical, robot: "old"), salt: "s", now: 1)
    for index in 0..<alerts {
      facts.state.alerts.raise(
        Alert(name: "RobotOffline", severity: .warning, robot: "r\(index)"), salt: "s", now: 2)
    }
    return facts
  }

  @Test func `a critical alert is shown first, however many newer ones there are`() {
    let report = StatusReport(self.facts(alerts: 250))
    #expect(report.alerts.count == StatusReport.maximumAlerts)
    #expect(report.alerts.first?.name == "SafetyStop")
    #expect(report.alerts.dropFirst().first?.subject == "r249")
    #expect(report.openAlerts == ["critical": 1, "warning": 250])
    let metrics = MetricsRegistry()
    report.record(in: metrics)
    #expect(metrics.renderPrometheus().contains(#"fleetloop_alerts_open{severity="critical"} 1.0"#))
    #expect(metrics.renderPrometheus().contains(#"fleetloop_alerts_open{severity="warning"} 250.0"#))
  }

  @Test func `it says how old is what it shows, and how services are`() {
    var facts = StatusBoard.Facts()
    facts.unixNanos = 100_000_000_000
    facts.countsUnixNanos = 60_000_000_000
    facts.services = [
      ServiceRow(service: "ingest", state: .unresponsive, detail: "no connection"),
      ServiceRow(service: "rollout"),
    ]
    let report = StatusReport(facts)
    #expect(report.timeMillis - report.countsMillis == 40_000)
    #expect(report.rolloutMillis == 0)
    #expect(report.services.map(\.state) == ["unresponsive", "unknown"])
    #expect(report.services.first?.detail == "no connection")
  }

  @Test func `at work means at work`() {
    var facts = StatusBoard.Facts()
    for (index, state) in [RobotState.idle, .idle, .working, .stopped].enumerated() {
      facts.state.hear(Heartbeat(robot: "r\(index)", state: state), salt: "s", now: 1)
    }
    let json = String(decoding: StatusReport(facts).json, as: UTF8.self)
    #expect(json.contains(#""robotsByState":{"idle":2,"stopped":1,"working":1}"#))
    // The page shows what was counted here.
    #expect(StatusPage.script.contains(#"[count("working") + " / " + s.robots.length, "robots at work"]"#))
  }

  @Test func `it shows why robots were stopped and resumed, in their words and the monitor's`() throws {
    var facts = StatusBoard.Facts()
    facts.state.hear(
      Heartbeat(robot: "a", state: .stopped, stopReason: "a hand", unkept: "disk is full"), salt: "s", now: 1)
    facts.state.hear(Heartbeat(robot: "b", state: .idle, resumeReason: "they left (ada)"), salt: "s", now: 1)
    facts.state.hear(Heartbeat(robot: "c", state: .unhealthy), salt: "s", now: 1)
    _ = try facts.state.resume("c", by: "ana", reason: "new gripper", now: 2)
    let robots = StatusReport(facts).robots
    #expect(robots.map(\.stopReason) == ["a hand", "", ""])
    #expect(robots.map(\.resumeReason) == ["", "they left (ada)", ""])
    #expect(robots.map(\.unkept) == ["disk is full", "", ""])
    #expect(robots.map(\.reason) == ["a hand", "", "resumed by ana: new gripper"])
    let json = String(decoding: StatusReport(facts).json, as: UTF8.self)
    #expect(json.contains(#""resumeReason":"they left (ada)""#))
    for field in ["r.reason", "r.stopReason", "r.resumeReason", "r.unkept"] {
      #expect(StatusPage.script.contains(field), "the page does not show \(field)")
    }
  }

  @Test func `counts of any size do no harm`() {
    var facts = StatusBoard.Facts()
    facts.counts = (0..<3).map { _ in
      OutcomeCount(task: "t", modelVersion: "v", robot: "a", mode: .policy, successes: .max, trials: .max)
    }
    #expect(StatusReport(facts).versions.count == 1)
  }

  @Test func `the board is drawn once a round`() {
    let board = StatusBoard(metrics: MetricsRegistry())
    var facts = self.facts(alerts: 0)
    facts.unixNanos = 1_000_000
    board.post(facts)
    #expect(String(decoding: board.json, as: UTF8.self).contains(#""timeMillis":1,"#))
    facts.unixNanos = 2_000_000
    board.post(facts)
    #expect(String(decoding: board.json, as: UTF8.self).contains(#""timeMillis":2,"#))
    #expect(String(decoding: board.metricsPage, as: UTF8.self).contains("fleetloop_alerts_open"))
  }
}

@Suite("Pages of alerts")
struct AlertPageTests {
  @Test func `pages hold every alert once, the most severe first, then the newest`() throws {
    var book = AlertBook()
    for index in 0..<25 {
      let severity: AlertSeverity = index % 5 == 0 ? .critical : index % 2 == 0 ? .warning : .info
      book.raise(Alert(name: "RobotOffline", severity: severity, robot: "r\(index)"), salt: "s", now: 1)
    }
    var robots: [String] = []
    var sizes: [Int] = []
    var token = ""
    repeat {
      let page = try book.page(includeResolved: false, size: 10, token: token)
      robots += page.alerts.map(\.robot)
      sizes.append(page.alerts.count)
      token = page.next
    } while !token.isEmpty
    let newestFirst = (0..<25).reversed()
    let expected =
      newestFirst.filter { $0 % 5 == 0 } + newestFirst.filter { $0 % 5 != 0 && $0 % 2 == 0 }
      + newestFirst.filter { $0 % 5 != 0 && $0 % 2 != 0 }
    #expect(robots == expected.map { "r\($0)" })
    #expect(book.mostSevereFirst().map(\.robot) == robots)
    #expect(sizes == [10, 10, 5])
    for token in ["x", "-1", "0", "3", "3-0", "-1-4", "3-4-5", "3-99999999999999999999"] {
      #expect(throws: MonitorError.self) { try book.page(includeResolved: false, size: 10, token: token) }
    }
  }

  @Test func `a generation at its end stays there`() {
    var robot = RobotEntry(name: "a")
    robot.healthGeneration = .max
    robot.set(healthy: false, reason: "", now: 1)
    #expect(robot.healthGeneration == .max)
  }
}
