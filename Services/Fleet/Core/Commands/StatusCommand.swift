package import ArgumentParser
import Foundation
import GRPCCore
import Schemas
import ServiceKit

/// `fleet status`: how the services are, and in short robots, alerts and releases.
package struct Status: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "How a fleet is: services, robots, open alerts, releases. Within 3 seconds, whatever hangs.",
    discussion: "Ends with 1 where a service does not serve or a process is down.")
  @OptionGroup var options: FleetOptions

  package init() {}

  package func run() async throws {
    let endpoints = try self.options.endpoints()
    let layout = try FleetLayout(data: self.options.folder, robots: [])
    let table = ProcessTable.read(layout.processTable)
    let keys = self.options.keys ?? ""
    // All at the same time: what hangs costs its own deadline and nobody else's.
    async let services = Self.services(endpoints, table, keys: keys)
    async let robots = self.asking { clients in
      try await clients.monitor.listRobots(.init(), options: .within(ServiceProbe.deadline)).robots
        .map(RobotLine.init)
    }
    async let alerts = self.asking { clients in
      try await clients.alerts(
        includeResolved: false, atMost: Alerts.List.most, within: ServiceProbe.deadline
      ).alerts
    }
    async let releases = self.asking { clients in
      try await clients.rollout.listReleases(.init(), options: .within(ServiceProbe.deadline)).releases
    }
    let report = FleetReport(
      services: await services, processes: Self.down(table), robots: await robots,
      alerts: await alerts?.map(FleetReport.Alert.init),
      releases: await releases?.map(FleetReport.Release.init), again: self.options.again)
    try Listing.show(report.text, json: self.options.json ? report : nil)
    guard report.isWell else { throw ExitCode.failure }
  }

  /// Nil where there is no answer; what does not answer is told as a service.
  private func asking<Answer: Sendable>(
    _ call: @Sendable (FleetClients) async throws -> Answer
  ) async -> Answer? {
    try? await self.options.withClients(call)
  }

  private static func services(
    _ endpoints: [String: String], _ table: ProcessTable?, keys: String
  ) async -> [FleetReport.Service] {
    await withTaskGroup(of: FleetReport.Service.self) { group in
      for setting in [
        EndpointSettings.ingestRPC, EndpointSettings.trainingRPC, EndpointSettings.inferenceRPC,
        EndpointSettings.monitorRPC, EndpointSettings.rolloutRPC,
      ] {
        let endpoint = endpoints[setting.key] ?? setting.defaultValue
        let name = String(setting.key.prefix { $0 != "." })
        group.addTask {
          let answer = await ServiceProbe.ask(endpoint, name, keys: keys)
          return FleetReport.Service(
            name, at: endpoint, answer, table?.processes.first { $0.name == name })
        }
      }
      return await group.reduce(into: []) { $0.append($1) }.sorted { $0.service < $1.service }
    }
  }

  /// Processes of this machine that are down and no service: agents and control programs.
  private static func down(_ table: ProcessTable?) -> [FleetReport.Process] {
    (table?.processes ?? []).filter { !$0.isRunning }.map(FleetReport.Process.init)
  }
}

/// Asks a service how it is.
enum ServiceProbe {
  /// Time that a service has for its answer. One that takes longer hangs.
  static let deadline: Duration = .milliseconds(1_500)

  enum Answer: Sendable { case serving, notServing, none }

  static func ask(_ endpoint: String, _ name: String, keys: String) async -> Answer {
    do {
      let transport = try RPCClient.transport(to: endpoint, service: name, keys: keys)
      return try await withGRPCClient(transport: transport) { client in
        let answer = try await Health.Client(wrapping: client).check(.init(), options: .within(Self.deadline))
        return answer.status == .serving ? .serving : .notServing
      }
    } catch {
      return .none
    }
  }
}
