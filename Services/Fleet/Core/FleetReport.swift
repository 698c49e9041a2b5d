import Foundation
import Schemas
import ServiceKit

/// What `fleet status` tells. A value; nil where the service that knows did not answer.
struct FleetReport: Encodable, Sendable {
  struct Service: Encodable, Sendable {
    var service, endpoint: String
    /// "serving", "not serving", "hangs", "down" or "no answer".
    var status: String
    /// Since when and why, where it does not serve.
    var detail: String

    /// - Parameter process: what the supervisor of this machine knows; nil where it knows nothing.
    init(
      _ name: String, at endpoint: String, _ answer: ServiceProbe.Answer, _ process: ProcessTable.Entry?,
      now: Date = .now
    ) {
      self.service = name
      self.endpoint = endpoint
      switch (answer, process) {
      case (.serving, _): (self.status, self.detail) = ("serving", "")
      case (.notServing, _): (self.status, self.detail) = ("not serving", "it says so itself")
      case (.none, let process?) where process.isRunning:
        self.status = "hangs"
        self.detail =
          "process \(process.process) runs, but did not answer within \(ServiceProbe.deadline); its log: \(process.log)"
      case (.none, let process?): (self.status, self.detail) = ("down", Process(process).describe(now: now))
      case (.none, nil): (self.status, self.detail) = ("no answer", "within \(ServiceProbe.deadline)")
      }
    }
  }

  /// A process of this machine that is down.
  struct Process: Encodable, Sendable {
    var name: String
    var since: Double
    var exitStatus: Int32
    var starts: Int
    var nextStart: Double
    var log: String
    /// The last lines of its log.
    var tail: [String]

    init(_ entry: ProcessTable.Entry) {
      self.name = entry.name
      self.since = entry.since
      self.exitStatus = entry.exitStatus ?? -1
      self.starts = entry.starts
      self.nextStart = entry.nextStart ?? 0
      self.log = entry.log
      self.tail = LogTail.lines(3, of: URL(filePath: entry.log))
    }

    func describe(now: Date) -> String {
      let down = TimeText.span(now.timeIntervalSince1970 - self.since)
      let next = max(0, self.nextStart - now.timeIntervalSince1970)
      return "for \(down), status \(self.exitStatus), started \(self.starts) times, "
        + "again in \(TimeText.span(next)); its log: \(self.log)"
    }
  }

  struct Alert: Encodable, Sendable {
    var id, name, severity, state, robot, summary: String
    var startedUnixNanos: Int64

    init(_ alert: Schemas.Alert) {
      self.id = alert.alertID
      self.name = alert.name
      self.severity = "\(alert.severity)"
      self.state = "\(alert.state)"
      self.robot = alert.robot
      self.summary = alert.summary
      self.startedUnixNanos = alert.startedUnixNanos
    }

    /// 0 for the most severe.
    private var rank: Int {
      let severities: [AlertSeverity] = [.critical, .warning, .info]
      return severities.firstIndex { "\($0)" == self.severity } ?? severities.count
    }

    /// The most severe first, and of those the newest.
    static func isBefore(_ one: Self, _ other: Self) -> Bool {
      (one.rank, other.startedUnixNanos) < (other.rank, one.startedUnixNanos)
    }
  }

  struct Release: Encodable, Sendable {
    var release, version, state: String
    var robots: Int
    var waiting: [String]

    init(_ release: Schemas.Release) {
      self.release = release.releaseID
      self.version = release.version
      self.state = "\(release.state)"
      self.robots = release.robots.count
      self.waiting = release.waiting
    }
  }

  /// Lines of one kind that are printed; JSON has all.
  static let shown = 5

  var services: [Service]
  /// Down at the moment.
  var processes: [Process]
  var robots: [RobotLine]?
  var alerts: [Alert]?
  var releases: [Release]?
  /// What names the fleet in a command, as ``FleetOptions/again``.
  var again = ""

  private enum CodingKeys: CodingKey { case services, processes, robots, alerts, releases }

  var isWell: Bool { self.services.allSatisfy { $0.status == "serving" } && self.processes.isEmpty }

  /// For people.
  var text: String {
    var table = TextTable(["service", "status", "endpoint", ""])
    table.rows = self.services.map { [$0.service, $0.status, $0.endpoint, $0.detail] }
    let parts = [
      table.render(), self.processText, self.robotText, self.alertText, self.releaseText,
    ]
    return parts.filter { !$0.isEmpty }.joined(separator: "\n")
  }

  private var processText: String {
    self.processes.map { process in
      "\(process.name) is down \(process.describe(now: .now))\n"
        + process.tail.map { "  | \(VisibleText.of($0))\n" }.joined()
    }
    .joined()
  }

  private var robotText: String {
    guard let robots else { return "robots: the monitor does not answer\n" }
    let counts = Dictionary(grouping: robots, by: \.state).mapValues(\.count).sorted { $0.key < $1.key }
    let summary = counts.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    let noted = robots.filter { !["idle", "working"].contains($0.state) || !$0.unkept.isEmpty }
    return "robots: \(robots.isEmpty ? "none" : summary)\n"
      + Self.lines(noted, rest: "fleet robots\(self.again)") {
        "\($0.robot) is \($0.state)\($0.remark.isEmpty ? "" : ": \($0.remark)")"
      }
  }

  private var alertText: String {
    guard let alerts else { return "alerts: the monitor does not answer\n" }
    return "open alerts: \(alerts.count)\n"
      + Self.lines(alerts.sorted(by: Alert.isBefore), rest: "fleet alerts\(self.again)") { alert in
        [alert.severity, alert.name, alert.robot, alert.summary].filter { !$0.isEmpty }.joined(separator: " ")
          + ", \(TimeText.ago(alert.startedUnixNanos))"
      }
  }

  private var releaseText: String {
    guard let releases else { return "releases: rollout does not answer\n" }
    // The latest, and what is under way.
    let noted = releases.enumerated().filter { $0 == 0 || $1.state == "rollingOut" }.map(\.element)
    return "releases: \(releases.count)\n"
      + Self.lines(noted, rest: "fleet rollout\(self.again)") { release in
        let waiting =
          release.waiting.isEmpty ? "" : ", waiting for \(release.waiting.joined(separator: ", "))"
        return
          "\(release.release): \(release.version) on \(release.robots) robots is \(release.state)\(waiting)"
      }
  }

  /// - Parameter rest: the command that lists all of them.
  private static func lines<Row>(_ rows: [Row], rest command: String, _ line: (Row) -> String) -> String {
    let rest = rows.count > Self.shown ? "  \(rows.count - Self.shown) more: \(command)\n" : ""
    return rows.prefix(Self.shown).map { "  \(VisibleText.of(line($0)))\n" }.joined() + rest
  }
}
