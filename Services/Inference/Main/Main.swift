import ArgumentParser
import Artifacts
import GRPCCore
import InferenceCore
import Schemas
import ServiceKit

@main
struct Main: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inference",
    abstract: "Answers robots' observations with actions, within a deadline, with the version that they name."
  )

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    try await ServiceProcess.run(
      "inference", options: self.options, settings: InferenceSettings.all, reusesLargeBlocks: true
    ) {
      context in
      let settings = context.configuration
      let keys = try settings(CommonSettings.keys)
      let trusted = try settings(InferenceSettings.trustedKeys)
      let registry = try RPCClient(
        to: try settings(EndpointSettings.rolloutRPC), service: "rollout", keys: keys)
      let disk = try ModelDisk(
        folder: try settings(InferenceSettings.data), trust: { try ModelTrust(path: trusted) },
        source: ModelSource(registry: ModelRegistryService.Client(wrapping: registry.client)),
        vitals: context.vitals)
      var batching = Batcher.Configuration()
      batching.workers = try settings(InferenceSettings.workers)
      batching.largestBatch = try settings(InferenceSettings.largestBatch)
      batching.capacity = try settings(InferenceSettings.waiting)
      batching.window = .microseconds(try settings(InferenceSettings.windowMicros))
      let inference = Inference(
        models: ModelCache(disk: disk, capacity: try settings(InferenceSettings.models)),
        batcher: Batcher(batching), metrics: context.metrics, logger: context.logger)
      let server = try await RPCServer(
        bind: try settings(EndpointSettings.inferenceRPC), keys: keys, context: context,
        services: [InferenceEndpoint(inference: inference)])
      return ServiceParts([registry, inference, server], endpoints: [("rpc", "\(server.endpoint)")])
    }
  }
}
