package import ArgumentParser
import Schemas
import ServiceKit

/// `fleet alerts`.
package struct Alerts: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List alerts, or acknowledge one.", subcommands: [List.self, Acknowledge.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Open alerts, the most severe first, then newest first.")
    @OptionGroup var options: FleetOptions
    @Flag(help: "Resolved ones too.") var all = false
    @Option(help: "At most so many, 1 to \(Self.most).") var limit = 1_000

    static let most = 100_000

    struct Row: Encodable {
      var id, name, severity, state, robot, release, acknowledgedBy, summary, remedy: String
      var startedUnixNanos: Int64

      init(_ alert: Alert) {
        self.id = alert.alertID
        self.name = alert.name
        self.severity = "\(alert.severity)"
        self.state = "\(alert.state)"
        self.robot = alert.robot
        self.release = alert.releaseID
        self.acknowledgedBy = alert.acknowledgedBy
        self.summary = alert.summary
        self.remedy = alert.remedy
        self.startedUnixNanos = alert.startedUnixNanos
      }
    }

    func validate() throws {
      guard (1...Self.most).contains(self.limit) else {
        throw ValidationError("--limit must be 1 to \(Self.most).")
      }
    }

    func run() async throws {
      let (all, limit) = (self.all, self.limit)
      let (alerts, areMore) = try await self.options.withClients {
        try await $0.alerts(includeResolved: all, atMost: limit, within: .seconds(30))
      }
      let rows = alerts.map(Row.init)
      try Listing(
        columns: [
          "alert", "name", "severity", "state", "by", "robot", "release", "since (UTC)", "summary", "remedy",
        ],
        rows: rows.map {
          [
            $0.id, $0.name, $0.severity, $0.state, $0.acknowledgedBy, $0.robot, $0.release,
            TimeText.date($0.startedUnixNanos), $0.summary,
            $0.remedy,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
      if areMore { ProgressReport().line("There are more than these \(rows.count): raise --limit") }
    }
  }

  struct Acknowledge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "acknowledge", abstract: "Say that somebody takes care of an alert.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the alert.") var alert: String
    @Option(help: "Who takes care; the login name where none is given.") var by: String?

    func run() async throws {
      let request = AcknowledgeAlertRequest(alertID: self.alert, by: self.by ?? Operator.name)
      let alert = try await self.options.withClients {
        try await $0.monitor.acknowledgeAlert(request, options: .within(.seconds(10)))
      }
      try Listing.show(
        "\(alert.name) is acknowledged by \(alert.acknowledgedBy)",
        json: self.options.json ? Self.json(alert) : nil)
    }

    /// What `--json` prints; keys as in the listing.
    static func json(_ alert: Alert) -> [String: String] {
      ["id": alert.alertID, "name": alert.name, "acknowledgedBy": alert.acknowledgedBy]
    }
  }
}
