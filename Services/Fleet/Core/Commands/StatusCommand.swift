package import ArgumentParser
import GRPCCore
import Schemas
import ServiceKit

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
