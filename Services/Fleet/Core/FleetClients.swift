package import Bus
package import GRPCCore
package import Schemas
import ServiceKit

/// Clients of every service of a fleet, over one connection each, and lines to its robots.
package struct FleetClients: Sendable {
  package typealias Connection = GRPCClient<ZeroMQClientTransport>

  package let ingest: IngestService.Client<ZeroMQClientTransport>
  package let training: TrainingService.Client<ZeroMQClientTransport>
  package let inference: InferenceService.Client<ZeroMQClientTransport>
  package let monitor: MonitorService.Client<ZeroMQClientTransport>
  package let rollout: RolloutService.Client<ZeroMQClientTransport>
  package let registry: ModelRegistryService.Client<ZeroMQClientTransport>
  package let robots: RobotLines
  /// Robots of the fleet's configuration, in its order; not all of them need to have an address.
  package let robotNames: [String]
  private let connections: [Connection]

  private init(
    endpoints: [String: String], robots: [String: String], robotNames: [String], keys: String
  ) throws {
    var connections: [Connection] = []
    func connect(_ endpoint: String, to service: String) throws -> Connection {
      let connection = try RPCClient.connection(to: endpoint, service: service, keys: keys)
      connections.append(connection)
      return connection
    }
    func endpoint(_ setting: Setting<String>) -> String { endpoints[setting.key] ?? setting.defaultValue }
    self.ingest = .init(wrapping: try connect(endpoint(EndpointSettings.ingestRPC), to: "ingest"))
    self.training = .init(wrapping: try connect(endpoint(EndpointSettings.trainingRPC), to: "training"))
    self.inference = .init(wrapping: try connect(endpoint(EndpointSettings.inferenceRPC), to: "inference"))
    self.monitor = .init(wrapping: try connect(endpoint(EndpointSettings.monitorRPC), to: "monitor"))
    let rollout = try connect(endpoint(EndpointSettings.rolloutRPC), to: "rollout")
    self.rollout = .init(wrapping: rollout)
    self.registry = .init(wrapping: rollout)
    self.robots = RobotLines(robots, keys: keys)
    self.robotNames = robotNames
    self.connections = connections
  }

  /// Connects, runs `body` and disconnects.
  /// - Parameters:
  ///   - endpoints: by setting key ("ingest.rpc"); a missing one is the setting's default.
  ///   - robots: endpoint of each robot's agent, by name.
  ///   - robotNames: every robot of the configuration; nil for those that have an endpoint.
  ///   - keys: folder of keys; empty for none.
  package static func with<Result: Sendable>(
    endpoints: [String: String], robots: [String: String] = [:], robotNames: [String]? = nil,
    keys: String = "", _ body: @Sendable (FleetClients) async throws -> Result
  ) async throws -> Result {
    let clients = try FleetClients(
      endpoints: endpoints, robots: robots, robotNames: robotNames ?? robots.keys.sorted(), keys: keys)
    return try await withThrowingTaskGroup(of: Void.self) { group in
      for connection in clients.connections {
        group.addTask { try await connection.runConnections() }
      }
      defer { for connection in clients.connections { connection.beginGracefulShutdown() } }
      return try await body(clients)
    }
  }
}
