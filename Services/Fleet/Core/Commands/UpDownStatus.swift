package import ArgumentParser
import Foundation
import GRPCCore
import Schemas
import ServiceKit

/// `fleet up`: all services and robots of this machine until Ctrl-C.
package struct Up: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Start all services and simulated robots on this machine, and keep them up until Ctrl-C.")

  @Option(help: "Folder of the fleet; made where it is missing.")
  var data: String = "data"
  @Option(help: "Number of simulated robots.")
  var robots: Int = 4
  @Option(help: "What the robots are: metaworld (MuJoCo) or synthetic (a load generator).")
  var simulator: String = "metaworld"
  @Option(name: .customLong("set"), help: "A setting of a service, e.g. --set monitor.http=127.0.0.1:7480.")
  var settings: [String] = []

  package init() {}

  package func validate() throws {
    guard (0...100).contains(self.robots) else {
      throw ValidationError("--robots must be between 0 and 100.")
    }
    guard ["metaworld", "synthetic"].contains(self.simulator) else {
      throw ValidationError("--simulator must be metaworld or synthetic.")
    }
  }

  package func run() async throws {
    let names = (0..<self.robots).map { "robot-\($0 + 1)" }
    var settings: [String: String] = [:]
    for text in self.settings {
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { throw ValidationError("'--set \(text)' is not key=value.") }
      settings[parts[0]] = parts[1]
    }
    let fleet = try LocalFleet(data: self.data, robots: names, simulator: self.simulator, settings: settings)
    let progress = ProgressReport()
    do {
      try await FleetSession.run(fleet, progress: progress) { supervisor in
        progress.line("fleet is up: \(names.count) robots; Ctrl-C ends it")
        try await supervisor.watch()
      }
    } catch is CancellationError {
      progress.line("fleet is down")
    }
  }
}

/// `fleet down`: ends the fleet that `fleet up` started.
package struct Down: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(abstract: "End the fleet of a folder.")
  @OptionGroup var options: FleetOptions

  package init() {}

  package func run() async throws {
    let layout = try FleetLayout(data: self.options.folder, robots: [])
    guard let process = FleetSession.runningProcess(layout) else {
      throw FleetError(.notRunning, "No fleet runs in \(layout.data.path).")
    }
    kill(process, SIGTERM)
    try await Deadline.wait(for: "the fleet's process \(process) to end", limit: .seconds(15)) {
      kill(process, 0) != 0
    }
    print("fleet is down")
  }
}

/// `fleet status`: whether each service answers.
package struct Status: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(abstract: "Ask every service of a fleet how it is.")
  @OptionGroup var options: FleetOptions

  package init() {}

  struct Row: Encodable {
    var service: String
    var endpoint: String
    var status: String
  }

  package func run() async throws {
    let endpoints = try self.options.endpoints()
    var rows: [Row] = []
    for setting in [
      EndpointSettings.ingestRPC, EndpointSettings.trainingRPC, EndpointSettings.inferenceRPC,
      EndpointSettings.monitorRPC, EndpointSettings.rolloutRPC,
    ] {
      let endpoint = endpoints[setting.key] ?? setting.defaultValue
      let name = String(setting.key.prefix { $0 != "." })
      rows.append(
        Row(
          service: name, endpoint: endpoint,
          status: await Self.check(endpoint, name, keys: self.options.keys ?? "")))
    }
    Listing(
      columns: ["service", "endpoint", "status"], rows: rows.map { [$0.service, $0.endpoint, $0.status] }
    )
    .show(json: self.options.json ? rows : nil)
    if rows.contains(where: { $0.status != "serving" }) { throw ExitCode.failure }
  }

  private static func check(_ endpoint: String, _ name: String, keys: String) async -> String {
    do {
      let connection = try RPCClient.connection(to: endpoint, service: name, keys: keys)
      return try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await connection.runConnections() }
        defer { connection.beginGracefulShutdown() }
        let answer = try await Health.Client(wrapping: connection).check(
          .init(), options: .within(.seconds(3)))
        return answer.status == .serving ? "serving" : "not serving"
      }
    } catch {
      return "no answer"
    }
  }
}
