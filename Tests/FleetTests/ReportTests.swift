import Foundation
import GRPCCore
import Schemas
import ServiceKit
import TestSupport
import Testing

@testable import FleetCore

@Suite("TimeText")
struct TimeTextTests {
  private let now = Date(timeIntervalSince1970: 1_764_000_000)

  @Test(arguments: [
    (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_800, "2 d"),
    (-5, "0 s"),
  ])
  func `spans are rounded for people`(seconds: Double, text: String) {
    #expect(TimeText.span(seconds) == text)
  }

  @Test(
    arguments: [
      ("90s", 1_763_999_910), ("2h", 1_763_992_800), ("7d", 1_763_395_200), ("2025-11-24", 1_763_942_400),
      ("2025-11-24T10:00", 1_763_978_400), ("2025-11-24T10:00:30", 1_763_978_430),
    ] as [(String, Int64)])
  func `the past is a span or a date`(text: String, seconds: Int64) {
    #expect(TimeText.past(text, now: self.now) == seconds * 1_000_000_000)
  }

  @Test(arguments: ["", "h", "yesterday", "-2h", "2w", "2025-13-01", "1e300d", "nand"])
  func `other words are no past`(text: String) {
    #expect(TimeText.past(text, now: self.now) == nil)
  }
}

@Suite("TaskOffers")
struct TaskOffersTests {
  @Test func `a task goes to those who offer it, and to those who never said`() throws {
    let offers = TaskOffers([("a", ["push", "pull"]), ("b", ["pull"]), ("c", [])])
    #expect(try offers.robots(for: "push") == ["a", "c"])
  }

  @Test func `a task that nobody offers is refused with those that there are`() {
    let offers = TaskOffers([("a", ["push", "pull"]), ("b", ["pull"])])
    #expect {
      try offers.robots(for: "nosuchtask")
    } throws: {
      "\($0)".contains("nosuchtask") && "\($0)".contains("pull, push")
    }
  }
}

@Suite("WorkID")
struct WorkIDTests {
  @Test func `an order belongs to the work that its id begins with`() {
    let work = WorkID.new("trials with v1")
    #expect(work.hasPrefix("trials-with-v1-"))
    #expect(WorkID.isPart("\(work)-17", of: work))
    #expect(WorkID.isPart("\(work)-17", of: "\(work)-17"))
    #expect(!WorkID.isPart("\(work)-17", of: "\(work)-1"))
    #expect(!WorkID.isPart("\(work)1-17", of: work))
    #expect(WorkID.work(of: "their-own") == "their-own" && WorkID.work(of: "7") == "7")
  }
}

@Suite("FleetReport")
struct FleetReportTests {
  private func entry(running: Bool) -> ProcessTable.Entry {
    .init(
      name: "ingest", process: 42, isRunning: running, since: Date.now.timeIntervalSince1970 - 30, starts: 9,
      exitStatus: running ? nil : 1, nextStart: running ? nil : Date.now.timeIntervalSince1970 + 90,
      log: "/nowhere/ingest.log")
  }

  @Test func `a process that runs and does not answer hangs, one that ended is down`() {
    let hung = FleetReport.Service("ingest", at: "ipc:///x", .none, self.entry(running: true))
    #expect(hung.status == "hangs" && hung.detail.contains("42"))
    let down = FleetReport.Service("ingest", at: "ipc:///x", .none, self.entry(running: false))
    #expect(down.status == "down")
    #expect(down.detail.contains("for 30 s, status 1, started 9 times"))
    #expect(down.detail.contains("/nowhere/ingest.log"))
    #expect(FleetReport.Service("ingest", at: "ipc:///x", .none, nil).status == "no answer")
    #expect(
      FleetReport.Service("ingest", at: "ipc:///x", .serving, self.entry(running: true)).status == "serving")
  }

  @Test func `at work means at work, and reasons are told`() {
    let rows = [
      RobotRow(robot: "r1", state: .idle), RobotRow(robot: "r2", state: .working),
      RobotRow(robot: "r3", state: .stopped, heartbeat: Heartbeat(stopReason: "someone is near")),
    ]
    let report = FleetReport(
      services: [], processes: [], robots: rows.map(RobotLine.init), alerts: nil, releases: [])
    #expect(report.text.contains("robots: 1 idle, 1 stopped, 1 working\n"))
    #expect(report.text.contains("r3 is stopped: someone is near"))
    #expect(report.text.contains("alerts: the monitor does not answer"))
  }

  @Test func `what others say neither commands the terminal nor forges a row`() throws {
    let reason = "x\u{1B}[2J\u{9B}2J\u{61C}\n  r2 is working"
    let folder = try TemporaryFolder()
    var down = self.entry(running: false)
    down.log = "\(folder.path)/log"
    try Data("\u{1B}[2J\u{9B}2J\n".utf8).write(to: URL(filePath: down.log))
    let report = FleetReport(
      services: [], processes: [.init(down)],
      robots: [RobotLine(RobotRow(robot: "r1", state: .stopped, heartbeat: Heartbeat(stopReason: reason)))],
      alerts: [.init(Alert(alertID: "a", name: "n", robot: "r1", summary: reason))],
      releases: [.init(Release(releaseID: "r", version: reason, state: .rollingOut))])
    self.expectPlain(report.text)
    #expect(!report.text.split(separator: "\n").contains("  r2 is working"), "\(report.text)")
    let json = try Listing.text(json: report)
    self.expectPlain(json)
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: [[String: Any]]]
    #expect(object?["alerts"]?.first?["summary"] as? String == reason)
  }

  @Test func `an error and a line of progress do not command the terminal`() async throws {
    let robot = FakeRobot { _ in
      throw RPCError(code: .invalidArgument, message: "x\u{1B}[2J\u{9B}2J\r\u{61C}")
    }
    let answers = try await FakeFleet().run(robots: ["r1": robot], services: []) {
      await $0.ask(robots: ["r1"]) { try await $0.enqueue(WorkOrder()) }
    }
    let failure = try #require(answers.first?.failure)
    #expect(failure.contains("\u{1B}"))
    for code in [FleetError.Code.refused, .usage] {
      self.expectPlain("\(Fleet.readable(FleetError(code, failure)))")
    }
    guard case .failure(let error) = answers[0].result else { return }
    self.expectPlain("\(Fleet.readable(error))")
    let told = Pipe()
    let progress = ProgressReport(isTerminal: false, output: told.fileHandleForWriting)
    progress.line(failure)
    progress.update(failure, done: 1, total: 2, detail: failure)
    try told.fileHandleForWriting.close()
    self.expectPlain(
      String(decoding: try told.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self))
  }

  /// Nothing in it commands but line feeds.
  private func expectPlain(_ text: String) {
    #expect(VisibleText.of(text, lines: true) == text)
    #expect(!text.unicodeScalars.contains { $0.value == 0x61C })
  }

  @Test func `a robot whose disk refuses something is listed with that, though it may work`() throws {
    let heartbeat = Heartbeat(resumeReason: "looked at it", unkept: "The last stop is not on the disk.")
    let line = RobotLine(RobotRow(robot: "r1", state: .idle, heartbeat: heartbeat))
    let report = FleetReport(services: [], processes: [], robots: [line], alerts: [], releases: [])
    let remark =
      "looked at it; ITS DISK REFUSES SOMETHING, and it tries again: The last stop is not on the disk."
    #expect(report.text.contains("r1 is idle: \(remark)"))
    #expect(Robots.List.listing([line]).rows.map(\.last) == [remark])
    let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(line)) as? [String: Any]
    #expect(object?["unkept"] as? String == "The last stop is not on the disk.")
    #expect(object?["reason"] as? String == "looked at it")
  }

  @Test func `a stranger that has the supervisor's number is not taken for it`() throws {
    let folder = try TemporaryFolder()
    let file = URL(filePath: "\(folder.path)/processes.json")
    var table = ProcessTable(processes: [self.entry(running: true)])
    try table.write(to: file)
    #expect(ProcessTable.read(file) == table)
    table.supervisorStart = "another boot 7"
    try table.write(to: file)
    #expect(ProcessTable.read(file) == nil)
    table.supervisorStart = nil
    try table.write(to: file)
    #expect(ProcessTable.read(file) == nil)
  }

  @Test func `a long list is cut, and says by how much`() {
    let alerts = (0..<9).map { Alert(alertID: "\($0)", name: "RobotOffline", robot: "r\($0)") }
    let report = FleetReport(
      services: [], processes: [], robots: [], alerts: alerts.map(FleetReport.Alert.init), releases: [])
    #expect(report.text.contains("open alerts: 9\n"))
    #expect(report.text.contains("  4 more: fleet alerts\n"))
  }

  @Test func `the most severe alert comes first, then the newest`() throws {
    // As the monitor lists them: newest first.
    let offline = (1...5).map {
      Alert(
        alertID: "o\($0)", name: "RobotOffline", severity: .warning, robot: "r\($0)",
        startedUnixNanos: Int64(100 - $0))
    }
    let damage = Alert(
      alertID: "d", name: "TrialLogDamaged", severity: .critical, summary: "trials-1", startedUnixNanos: 1)
    let alerts = (offline + [damage]).map(FleetReport.Alert.init)
    let report = FleetReport(
      services: [], processes: [], robots: [], alerts: alerts, releases: [], again: " --data e")
    let lines = report.text.split(separator: "\n").map(String.init)
    let first = try #require(lines.firstIndex(of: "open alerts: 6"))
    #expect(lines[first + 1].hasPrefix("  critical TrialLogDamaged trials-1"))
    #expect(lines[first + 2].hasPrefix("  warning RobotOffline r1"))
    #expect(lines[first + 5].hasPrefix("  warning RobotOffline r4"))
    #expect(lines[first + 6] == "  1 more: fleet alerts --data e")
  }

  @Test func `scripts find an alert's id under one name`() throws {
    let report = FleetReport(
      services: [], processes: [], robots: [], alerts: [.init(Alert(alertID: "a1"))], releases: [])
    let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(report)) as? [String: Any]
    #expect(Set(object?.keys ?? [:].keys) == ["services", "processes", "robots", "alerts", "releases"])
    #expect((object?["alerts"] as? [[String: Any]])?.first?["id"] as? String == "a1")
    let listed = try JSONSerialization.jsonObject(
      with: JSONEncoder().encode(Alerts.List.Row(Alert(alertID: "a1"))))
    #expect((listed as? [String: Any])?["id"] as? String == "a1")
    let acknowledged = Alerts.Acknowledge.json(Alert(alertID: "a1", name: "n", acknowledgedBy: "ada"))
    #expect(acknowledged == ["id": "a1", "name": "n", "acknowledgedBy": "ada"])
  }

  @Test func `scripts find what a page of trials goes on with`() throws {
    let page = Trials.List.Page(trials: [], next: "TOKEN")
    let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(page)) as? [String: Any]
    #expect(object?["next"] as? String == "TOKEN" && object?["trials"] is [Any])
  }
}
