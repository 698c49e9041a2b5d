import Artifacts
import Bus
import Foundation
import GRPCCore
import Logging
import Policy
import Schemas
import ServiceKit
import Synchronization
import TestSupport

@testable import InferenceCore

/// The registry as inference sees it: models in a folder, signed by one key.
final class FakeRegistry: ModelRegistryService.SimpleServiceProtocol {
  let key = SigningKey()
  let store: ArtifactStore
  private let folder: TemporaryFolder
  private let state = Mutex((fetches: [String](), manifests: [ModelManifest]()))

  init() throws {
    self.folder = try TemporaryFolder()
    self.store = try ArtifactStore(folder: "\(self.folder.path)/registry")
  }

  /// Versions that were asked for, in order.
  var fetches: [String] { self.state.withLock { $0.fetches } }

  /// Makes a small model of random weights.
  /// - Returns: an engine of its own with the same weights, to compare answers with.
  @discardableResult
  func add(
    _ version: String, serial: UInt64, signedBy key: SigningKey? = nil, expires: Int64 = 0
  ) throws -> InferenceEngine {
    let policy = PolicyConfiguration(
      imageSize: 16, visionFeatures: 32, jointFeatures: 16, fusionFeatures: 32, taskFeatures: 8,
      channels: [8], strides: [4], kernels: [5])
    let tasks = ["open", "close"]
    let network = try PolicyNetwork(configuration: NetworkConfiguration(policy), tasks: tasks, seed: serial)
    var manifest = ModelManifest(version: version, policy: network.configuration.message, tasks: tasks)
    manifest.serial = serial
    manifest.expiresUnixNanos = expires
    for file in try network.files() {
      manifest.files.append(try self.store.store(file.bytes, name: file.name))
    }
    try self.store.save((key ?? self.key).sign(manifest))
    let registered = manifest
    self.state.withLock { $0.manifests.append(registered) }
    return try InferenceEngine(network, version: version)
  }

  /// The same models without a socket.
  var source: ModelSource {
    ModelSource(
      fetch: { request, take in
        let sender = try ArtifactSender(request.version, from: self.store, skipping: request.haveSha256)
        for chunk in sender { try await take(chunk.get()) }
      }, list: { self.state.withLock { $0.manifests } })
  }

  func registerModel(
    request: RPCAsyncSequence<ModelChunk, any Error>, context: ServerContext
  ) async throws -> RegisterModelResponse {
    throw RPCError(code: .unimplemented, message: "Inference registers no models.")
  }

  func getModel(
    request: GetModelRequest, response: RPCWriter<ModelChunk>, context: ServerContext
  ) async throws {
    self.state.withLock { $0.fetches.append(request.version) }
    do {
      try await self.source.fetch(request) { try await response.write($0) }
    } catch let error as ArtifactError {
      throw RPCError(code: .notFound, message: error.message)
    }
  }

  func listModels(request: ListModelsRequest, context: ServerContext) async throws -> ListModelsResponse {
    ListModelsResponse(models: try await self.source.list())
  }
}

/// Inference and its registry, each on an ipc socket.
struct Bench: Sendable {
  let folder: TemporaryFolder
  let registry: FakeRegistry
  let inference: Inference
  let vitals: Vitals
  let client: InferenceService.Client<ZeroMQClientTransport>

  /// Serves until `body` ends.
  static func run<Result: Sendable>(
    capacity: Int = 4, batcher: Batcher = Batcher(),
    _ body: @escaping @Sendable (Bench) async throws -> Result
  ) async throws -> Result {
    let folder = try TemporaryFolder()
    let registry = try FakeRegistry()
    let vitals = Vitals()
    let registryAddress = try Endpoint("ipc://\(folder.path)/r")
    let address = try Endpoint("ipc://\(folder.path)/i")
    return try await withGRPCServer(
      transport: try ZeroMQServerTransport(bind: registryAddress), services: [registry]
    ) { _ in
      try await withGRPCClient(transport: try ZeroMQClientTransport(connect: registryAddress)) { models in
        let inference = try Self.inference(
          folder: folder, key: registry.key,
          source: ModelSource(registry: ModelRegistryService.Client(wrapping: models)), capacity: capacity,
          batcher: batcher, vitals: vitals)
        return try await withGRPCServer(
          transport: try ZeroMQServerTransport(bind: address),
          services: [InferenceEndpoint(inference: inference)]
        ) { _ in
          try await withGRPCClient(transport: try ZeroMQClientTransport(connect: address)) { robot in
            try await body(
              Bench(
                folder: folder, registry: registry, inference: inference, vitals: vitals,
                client: InferenceService.Client(wrapping: robot)))
          }
        }
      }
    }
  }

  /// Inference without sockets.
  static func inference(
    folder: TemporaryFolder, key: SigningKey, source: ModelSource, capacity: Int = 4,
    batcher: Batcher = Batcher(), vitals: Vitals = Vitals()
  ) throws -> Inference {
    let disk = try ModelDisk(
      folder: "\(folder.path)/inference", trust: { ModelTrust(keys: [key.verificationKey]) }, source: source,
      vitals: vitals)
    return Inference(
      models: ModelCache(disk: disk, capacity: capacity), batcher: batcher,
      metrics: MetricsRegistry(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// Sends requests on one stream, numbered from 0.
  /// - Returns: the answers by number.
  func act(_ requests: [ActRequest]) async throws -> [UInt64: ActResponse] {
    try await self.client.act { writer in
      for (index, var request) in requests.enumerated() {
        request.requestID = UInt64(index)
        try await writer.write(request)
      }
    } onResponse: { response in
      try await response.messages.reduce(into: [:]) { $0[$1.requestID] = $1 }
    }
  }
}

/// What a robot sees at a step: a picture that differs from step to step.
func observation(task: String = "open", step: Int = 0) -> Observation {
  Observation(
    robot: "r1", task: task,
    image: (0..<(32 * 32 * 3)).map { UInt8(truncatingIfNeeded: $0 &* (step + 3)) }, imageHeight: 32,
    imageWidth: 32, jointAngles: (0..<7).map { Float($0) * 0.1 - Float(step % 5) * 0.2 })
}

func request(
  _ version: String = "", content: [UInt8] = [], step: Int = 0, budgetMicros: UInt64 = 0
) -> ActRequest {
  ActRequest(
    requestID: UInt64(step), observation: observation(step: step), modelVersion: version,
    budgetMicros: budgetMicros, manifestSha256: content)
}

extension InferenceEngine {
  func action(_ observation: Observation) throws -> [Float] {
    try self.actions(for: [self.prepare(observation)])[0]
  }
}

/// The code of the error that a call ends with; nil where it ends well.
func status(_ body: () async throws -> Void) async -> RPCError.Code? {
  do { try await body() } catch { return (error as? RPCError)?.code ?? .unknown }
  return nil
}

func code(_ body: () async throws -> Void) async -> InferenceError.Code? {
  do { try await body() } catch { return (error as? InferenceError)?.code }
  return nil
}

func isClose(_ one: [Float], _ other: [Float]) -> Bool {
  one.count == other.count && zip(one, other).allSatisfy { abs($0 - $1) < 1e-5 }
}
