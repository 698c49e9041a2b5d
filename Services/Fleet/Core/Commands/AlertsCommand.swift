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
    static let configuration = CommandConfiguration(abstract: "Open alerts, newest first.")
    @OptionGroup var options: FleetOptions
    @Flag(help: "Resolved ones too.") var all = false

    struct Row: Encodable {
      var id, name, severity, state, robot, summary, remedy: String
      var startedUnixNanos: Int64
    }

    func run() async throws {
      let all = self.all
      let rows = try await self.options.withClients {
        try await $0.monitor.listAlerts(
          ListAlertsRequest(includeResolved: all), options: .within(.seconds(10))
        ).alerts
      }
      .map {
        Row(
          id: $0.alertID, name: $0.name, severity: "\($0.severity)", state: "\($0.state)", robot: $0.robot,
          summary: $0.summary, remedy: $0.remedy, startedUnixNanos: $0.startedUnixNanos)
      }
      Listing(
        columns: ["alert", "name", "severity", "state", "robot", "since", "summary", "remedy"],
        rows: rows.map {
          [
            $0.id, $0.name, $0.severity, $0.state, $0.robot, TimeText.date($0.startedUnixNanos), $0.summary,
            $0.remedy,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Acknowledge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "acknowledge", abstract: "Say that somebody takes care of an alert.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the alert.") var alert: String
    @Option(help: "Who takes care.") var by: String = "operator"

    func run() async throws {
      let request = AcknowledgeAlertRequest(alertID: self.alert, by: self.by)
      let alert = try await self.options.withClients {
        try await $0.monitor.acknowledgeAlert(request, options: .within(.seconds(10)))
      }
      print("\(alert.name) is acknowledged by \(alert.acknowledgedBy)")
    }
  }
}
