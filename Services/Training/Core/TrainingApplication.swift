internal import Bus
internal import Logging
internal import Schemas
package import ServiceKit

/// The training service of one process.
package enum TrainingApplication {
  /// Binds sockets and opens the folder.
  package static func parts(_ context: ServiceContext) async throws -> ServiceParts {
    let configuration = context.configuration
    let keys = try configuration(CommonSettings.keys)
    let ingest = try RPCClient(to: configuration(EndpointSettings.ingestRPC), service: "ingest", keys: keys)
    let rollout = try RPCClient(
      to: configuration(EndpointSettings.rolloutRPC), service: "rollout", keys: keys)
    let publisher = try Publisher(
      .bind(Endpoint(configuration(EndpointSettings.trainingPublications))), identity: context.name,
      security: TopicSecurity.server(BusSecurity.server(keys: keys)))
    let logger = context.logger
    let jobs = try TrainingJobs(
      settings: TrainingSettings.Values(configuration),
      peers: Peers(
        ingest: IngestService.Client(wrapping: ingest.client),
        registry: ModelRegistryService.Client(wrapping: rollout.client)),
      metrics: context.metrics, vitals: context.vitals, logger: logger,
      publish: { progress in
        do {
          try await publisher.publish(progress, to: .training(job: progress.jobID))
        } catch {
          logger.debug("progress was not published", metadata: ["error": "\(error)"])
        }
      })
    let server = try await RPCServer(
      bind: configuration(EndpointSettings.trainingRPC), keys: keys, context: context,
      services: [TrainingEndpoint(jobs)])
    // Stopped in reverse: jobs save themselves while their peers still answer.
    return ServiceParts(
      [ingest, rollout, jobs, server],
      endpoints: [
        ("rpc", "\(server.endpoint)"), ("publications", "\(try await publisher.boundEndpoint)"),
      ])
  }
}
