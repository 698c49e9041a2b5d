import ArgumentParser
import Bus
import Foundation
import IngestCore
import ServiceKit
import Trials

@main
struct Main: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ingest",
    abstract: "Receives trials, makes them durable, checks them, and hands them out as datasets.")

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    try await ServiceProcess.run("ingest", options: self.options, settings: IngestSettings.all) { context in
      let settings = context.configuration
      let keys = try settings(CommonSettings.keys)
      var store = TrialStore.Configuration()
      store.log.maximumFileBytes = try settings(IngestSettings.fileMegabytes) << 20
      let trials = try TrialStore(
        folder: URL(filePath: try settings(IngestSettings.data)), configuration: store)
      var limits = TrialAssembler.Limits()
      limits.openTrials = try settings(IngestSettings.openTrials)
      limits.quietNanos = Int64(try settings(IngestSettings.quietSeconds)) * 1_000_000_000
      let security = try BusSecurity.server(keys: keys)
      let subscriber = try Subscriber(
        .bind(Endpoint(try settings(EndpointSettings.ingestTrials))), topics: [Topic("trials")],
        security: security)
      let publisher = try Publisher(
        .bind(Endpoint(try settings(EndpointSettings.ingestPublications))), identity: "ingest",
        security: security)
      let ingest = Ingest(
        store: trials, subscriber: subscriber, publisher: publisher, metrics: context.metrics,
        logger: context.logger, limits: limits)
      let server = try await RPCServer(
        bind: try settings(EndpointSettings.ingestRPC), keys: keys, context: context,
        services: [IngestEndpoint(ingest: ingest, store: trials, limits: limits)])
      return ServiceParts(
        [ingest, server],
        endpoints: [
          ("rpc", "\(server.endpoint)"), ("trials", "\(try await subscriber.boundEndpoint)"),
          ("publications", "\(try await publisher.boundEndpoint)"),
        ])
    }
  }
}
