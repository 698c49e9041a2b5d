import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
package import ServiceKit
import ServiceLifecycle
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
      metrics: context.metrics, logger: context.logger,
      now: { Int64(Date.now.timeIntervalSince1970 * 1e9) })
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
    peers.gatherMetrics = Self.gatherMetrics([
      "ingest": ingest, "training": training, "inference": inference, "rollout": rollout,
    ])
    var intervals = MonitorRounds.Intervals()
    intervals.tick = .milliseconds(try settings(MonitorSettings.pollMillis))
    intervals.releases = intervals.tick
    let rounds = MonitorRounds(
      monitor: monitor, peers: peers, intervals: intervals,
      logger: context.logger)
    let listener = MonitorListener(
      monitor: monitor, telemetry: telemetry, outcomes: outcomes, metrics: context.metrics,
      logger: context.logger)
    let rpc = try await RPCServer(
      bind: try settings(EndpointSettings.monitorRPC), keys: keys, context: context,
      services: [MonitorEndpoint(monitor: monitor)])
    let http = try await StatusServer(
      monitor: monitor, bind: try settings(EndpointSettings.monitorHTTP),
      token: try settings(MonitorSettings.httpToken), metrics: context.metrics,
      busMetrics: BusMetricsText.render)
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
    limits.offlineNanos = Int64(try settings(MonitorSettings.offlineSeconds) * 1e9)
    limits.spooledTrials = try settings(MonitorSettings.spoolLimit)
    return limits
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
    return MonitorPeers(
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
  }
}

/// Hears robots' telemetry and ingest's outcomes as they come.
struct MonitorListener: Service {
  let monitor: Monitor
  let telemetry: Subscriber
  let outcomes: Subscriber
  let metrics: MetricsRegistry
  let logger: Logger

  func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask {
          for await message in self.telemetry.messages { await self.hear(telemetry: message) }
        }
        group.addTask {
          for await message in self.outcomes.messages { await self.hear(outcome: message) }
        }
      }
    }
    await self.telemetry.close()
    await self.outcomes.close()
  }

  private func hear(telemetry message: ReceivedMessage) async {
    await self.take(message) {
      let event = try message.decode(TelemetryEvent.self)
      let robot: String? =
        switch event.event {
        case .heartbeat(let heartbeat): heartbeat.robot
        case .safety(let safety): safety.robot
        case .trial(let trial): trial.robot
        case nil: nil
        }
      // A robot speaks for itself only.
      guard let robot, message.topic == .telemetry(robot: robot) else {
        self.metrics.increment(
          "monitor_messages_refused_total", labels: ["reason": "topic"],
          help: "Messages that were turned away.")
        return
      }
      try await self.monitor.hear(event)
    }
  }

  private func hear(outcome message: ReceivedMessage) async {
    await self.take(message) { try await self.monitor.hear(try message.decode(StoredOutcome.self)) }
  }

  private func take(_ message: ReceivedMessage, _ body: () async throws -> Void) async {
    do {
      try await body()
    } catch is BusError {
      self.metrics.increment(
        "monitor_messages_refused_total", labels: ["reason": "malformed"],
        help: "Messages that were turned away.")
    } catch {
      self.logger.error("message not taken", metadata: ["topic": "\(message.topic)", "error": "\(error)"])
    }
  }
}
