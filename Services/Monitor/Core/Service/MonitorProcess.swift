import Bus
import GRPCCore
import Schemas
package import ServiceKit
import Statistics

/// The monitor as a process: its parts over the bus and HTTP.
package enum MonitorProcess {
  /// Time that a peer has for an answer.
  private static let patience: Duration = .seconds(10)
  private static let metricsPatience: Duration = .seconds(2)

  /// Opens the state, binds the sockets.
  /// - Throws: ``MonitorError``, `BusError` or `ServiceError`, each saying what to do.
  package static func parts(_ context: ServiceContext) async throws -> ServiceParts {
    let settings = context.configuration
    let keys = try settings(CommonSettings.keys)
    let monitor = try Monitor(
      store: MonitorStore(folder: try settings(MonitorSettings.data)), limits: try Self.limits(settings),
      rule: RegressionWatch(
        alpha: try settings(MonitorSettings.regressionAlpha),
        tolerance: try settings(MonitorSettings.regressionTolerance)),
      metrics: context.metrics, vitals: context.vitals, logger: context.logger)
    let server = try BusSecurity.server(keys: keys)
    let publisher = try Publisher(
      .bind(Endpoint(try settings(EndpointSettings.monitorPublications))), identity: "monitor",
      security: server)
    let telemetry = try Subscriber(
      .bind(Endpoint(try settings(EndpointSettings.monitorTelemetry))), topics: [Topic("telemetry")],
      security: server)
    let outcomes = try Subscriber(
      .connect([Endpoint(try settings(EndpointSettings.ingestPublications))]), topics: [Topic("outcomes")],
      security: try BusSecurity.client(of: "ingest", keys: keys))
    let ingest = try RPCClient(to: try settings(EndpointSettings.ingestRPC), service: "ingest", keys: keys)
    let training = try RPCClient(
      to: try settings(EndpointSettings.trainingRPC), service: "training", keys: keys)
    let inference = try RPCClient(
      to: try settings(EndpointSettings.inferenceRPC), service: "inference", keys: keys)
    let rollout = try RPCClient(
      to: try settings(EndpointSettings.rolloutRPC), service: "rollout", keys: keys)
    var peers = Self.peers(publisher, ingest, rollout)
    let services = try Self.chosen(
      try settings(MonitorSettings.services),
      of: ["ingest": ingest, "training": training, "inference": inference, "rollout": rollout])
    let watched = Set(services.keys)
    try await monitor.change { state, now, _ in state.watch(services: watched, now: now) }
    peers.gatherMetrics = Self.gatherMetrics(services)
    peers.health = services.mapValues { client in { await ServiceProbe.ask(client.client) } }
    var intervals = MonitorRounds.Intervals()
    intervals.tick = .milliseconds(try settings(MonitorSettings.pollMillis))
    intervals.releases = intervals.tick
    intervals.probes = .milliseconds(try settings(MonitorSettings.probeMillis))
    let board = StatusBoard(metrics: context.metrics, busMetrics: BusMetricsText.render)
    let rounds = MonitorRounds(
      monitor: monitor, peers: peers, board: board, intervals: intervals, logger: context.logger)
    let listener = MonitorListener(
      monitor: monitor, telemetry: telemetry, outcomes: outcomes, metrics: context.metrics,
      logger: context.logger)
    let rpc = try await RPCServer(
      bind: try settings(EndpointSettings.monitorRPC), keys: keys, context: context,
      services: [MonitorEndpoint(monitor: monitor)])
    let http = try await StatusServer(
      board: board, vitals: context.vitals, bind: try settings(EndpointSettings.monitorHTTP),
      token: try settings(MonitorSettings.httpToken), hosts: try settings(MonitorSettings.httpHosts))
    return ServiceParts(
      [ingest, training, inference, rollout, listener, rpc, rounds, http],
      endpoints: [
        ("rpc", "\(rpc.endpoint)"), ("telemetry", "\(try await telemetry.boundEndpoint)"),
        ("publications", "\(try await publisher.boundEndpoint)"), ("http", "http://\(http.address)/"),
      ])
  }

  private static func limits(_ settings: ServiceConfiguration) throws -> MonitorState.Limits {
    var limits = MonitorState.Limits()
    limits.failures = try settings(MonitorSettings.failureLimit)
    limits.offline = .seconds(try settings(MonitorSettings.offlineSeconds))
    limits.tick = .milliseconds(try settings(MonitorSettings.pollMillis))
    limits.spooledTrials = try settings(MonitorSettings.spoolLimit)
    return limits
  }

  /// - Throws: `ServiceError` `.invalidConfiguration` for a name that is no service's.
  private static func chosen(
    _ names: [String], of clients: [String: RPCClient]
  ) throws -> [String: RPCClient] {
    for name in names where clients[name] == nil {
      throw ServiceError(
        .invalidConfiguration,
        "monitor.services names '\(name)'; it may name \(clients.keys.sorted().joined(separator: ", ")).")
    }
    return clients.filter { names.contains($0.key) }
  }

  /// Asks all at once: one that does not answer holds up no other.
  private static func gatherMetrics(_ services: [String: RPCClient]) -> @Sendable () async -> [ServiceMetrics]
  {
    let services = services.mapValues { MetricsService.Client(wrapping: $0.client) }
    return {
      await withTaskGroup(of: ServiceMetrics.self) { group in
        for (name, service) in services {
          group.addTask {
            let answer = try? await service.getMetrics(.init(), options: .within(Self.metricsPatience))
            return ServiceMetrics(service: name, text: answer?.prometheusText)
          }
        }
        return await group.reduce(into: []) { $0.append($1) }.sorted { $0.service < $1.service }
      }
    }
  }

  private static func peers(_ publisher: Publisher, _ ingest: RPCClient, _ rollout: RPCClient) -> MonitorPeers
  {
    let ingest = IngestService.Client(wrapping: ingest.client)
    let registry = ModelRegistryService.Client(wrapping: rollout.client)
    let rollout = RolloutService.Client(wrapping: rollout.client)
    var peers = MonitorPeers(
      publishAlert: { try? await publisher.publish($0, to: .alerts(severity: "\($0.severity)")) },
      publishDirective: { try? await publisher.publish($0, to: .health(robot: $0.robot)) },
      summarize: {
        try await ingest.summarizeOutcomes(
          SummarizeOutcomesRequest(query: $0), options: .within(Self.patience)
        ).counts
      },
      listTrials: { try await ingest.listTrials($0, options: .within(Self.patience)) },
      describeRollout: {
        RolloutDescription(
          releases: try await rollout.listReleases(.init(), options: .within(Self.patience)).releases,
          experiments: try await rollout.listExperiments(.init(), options: .within(Self.patience))
            .experiments,
          models: try await registry.listModels(.init(), options: .within(Self.patience)).models)
      })
    peers.listDamages = {
      try await ingest.getStatistics(.init(), options: .within(Self.patience)).damages
    }
    return peers
  }
}
