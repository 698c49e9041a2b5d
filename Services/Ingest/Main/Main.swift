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
      var limits = TrialAssembler.Limits()
      limits.shares = try IngestSettings.shares(of: settings)
      limits.quiet = .seconds(try settings(IngestSettings.quietSeconds))
      var store = TrialStore.Configuration()
      // Robots' shares decide, which are fair: what they let in the store takes.
      store.maximumWaiting = limits.shares.trials
      store.maximumWaitingBytes = limits.shares.bytes
      store.log.maximumFileBytes = try settings(IngestSettings.fileMegabytes) << 20
      let notices = StoreNotices(logger: context.logger, metrics: context.metrics, vitals: context.vitals)
      let trials = try TrialStore(
        folder: URL(filePath: try settings(IngestSettings.data)), configuration: store, tell: notices.tell)
      let security = try BusSecurity.server(keys: keys)
      let subscriber = try Subscriber(
        .bind(Endpoint(try settings(EndpointSettings.ingestTrials))), topics: [Topic("trials")],
        security: security)
      let publisher = try Publisher(
        .bind(Endpoint(try settings(EndpointSettings.ingestPublications))), identity: "ingest",
        security: security)
      let ingest = Ingest(
        store: trials, subscriber: subscriber, publisher: publisher, metrics: context.metrics,
        vitals: context.vitals, logger: context.logger, limits: limits)
      let server = try await RPCServer(
        bind: try settings(EndpointSettings.ingestRPC), keys: keys, context: context,
        services: [IngestEndpoint(intake: ingest.intake, store: trials)])
      return ServiceParts(
        [ingest, server],
        endpoints: [
          ("rpc", "\(server.endpoint)"), ("trials", "\(try await subscriber.boundEndpoint)"),
          ("publications", "\(try await publisher.boundEndpoint)"),
        ])
    }
  }
}
