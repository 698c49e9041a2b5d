import Artifacts
import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
package import ServiceKit
import ServiceLifecycle

/// Rollout as a process: its parts over the bus.
package enum RolloutProcess {
  /// Time that a peer has for an answer.
  private static let patience: Duration = .seconds(5)

  /// Opens the state, binds the sockets.
  /// - Throws: ``RolloutError``, `ArtifactError`, `BusError` or `ServiceError`, each saying what to do.
  package static func parts(_ context: ServiceContext) async throws -> ServiceParts {
    let settings = context.configuration
    let keys = try settings(CommonSettings.keys)
    let folder = try settings(RolloutSettings.data)
    let trusted = try settings(RolloutSettings.trustedKeys)
    var limits = RolloutState.Limits()
    limits.reachableNanos = Int64(try settings(RolloutSettings.reachableSeconds) * 1e9)
    let registry = try ModelRegistry(folder: "\(folder)/models") { () throws(ArtifactError) in
      try ModelTrust(path: trusted)
    }
    let rollout = try Rollout(
      store: RolloutStore(folder: folder), limits: limits, metrics: context.metrics,
      vitals: context.vitals, logger: context.logger)
    try await rollout.pinReleased { try await registry.manifestHash(of: $0) }
    let publisher = try Publisher(
      .bind(Endpoint(try settings(EndpointSettings.rolloutPublications))), identity: "rollout",
      security: try BusSecurity.server(keys: keys))
    let alerts = try Subscriber(
      .connect([Endpoint(try settings(EndpointSettings.monitorPublications))]), topics: [Topic("alerts")],
      security: try BusSecurity.client(of: "monitor", keys: keys))
    let ingest = try RPCClient(to: try settings(EndpointSettings.ingestRPC), service: "ingest", keys: keys)
    let monitor = try RPCClient(
      to: try settings(EndpointSettings.monitorRPC), service: "monitor", keys: keys)
    let peers = Self.peers(publisher, ingest, monitor)
    var intervals = RolloutRounds.Intervals()
    intervals.publish = .milliseconds(try settings(RolloutSettings.publishMillis))
    intervals.experiments = .milliseconds(try settings(RolloutSettings.pollMillis))
    intervals.alerts = intervals.experiments
    let rounds = RolloutRounds(rollout: rollout, peers: peers, intervals: intervals, logger: context.logger)
    let server = try await RPCServer(
      bind: try settings(EndpointSettings.rolloutRPC), keys: keys, context: context,
      services: [
        RolloutEndpoint(rollout: rollout, registry: registry, peers: peers, authorize: Self.authorize),
        ModelRegistryEndpoint(registry: registry) { try await rollout.snapshot.check($0, has: $1) },
      ])
    return ServiceParts(
      [
        ingest, monitor, AlertListener(rollout: rollout, alerts: alerts, logger: context.logger), rounds,
        server,
      ],
      endpoints: [
        ("rpc", "\(server.endpoint)"), ("publications", "\(try await publisher.boundEndpoint)"),
      ])
  }

  private static func peers(_ publisher: Publisher, _ ingest: RPCClient, _ monitor: RPCClient) -> RolloutPeers
  {
    let ingest = IngestService.Client(wrapping: ingest.client)
    let monitor = MonitorService.Client(wrapping: monitor.client)
    return RolloutPeers(
      // A publication that is dropped comes again with the next round.
      publish: { try? await publisher.publish($0, to: .releases(robot: $0.robot)) },
      summarize: { try await ingest.summarizeOutcomes($0, options: .within(Self.patience)) },
      watch: { _ = try await monitor.watchRelease($0, options: .within(Self.patience)) },
      alerts: {
        try await RolloutPeers.allAlerts { try await monitor.listAlerts($0, options: .within(Self.patience)) }
      })
  }

  /// A robot speaks for itself only; services and operators may for any.
  private static func authorize(_ robot: String, _ context: ServerContext) throws {
    guard let caller = context.peerIdentity, caller.role == .robot, caller.name != robot else { return }
    throw RPCError(code: .permissionDenied, message: "\(caller) may not speak for robot '\(robot)'.")
  }
}

/// Hears the monitor's alerts as they come; what is lost on the way is found by asking.
struct AlertListener: Service {
  let rollout: Rollout
  let alerts: Subscriber
  let logger: Logger

  func run() async throws {
    await cancelWhenGracefulShutdown {
      for await message in self.alerts.messages {
        do {
          try await self.rollout.hear(try message.decode(Alert.self))
        } catch {
          self.logger.error("alert not followed", metadata: ["error": "\(error)"])
        }
      }
    }
    await self.alerts.close()
  }
}
