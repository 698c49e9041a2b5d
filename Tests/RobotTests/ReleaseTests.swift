import Artifacts
import Bus
import Foundation
import GRPCCore
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// Hands out the models of a store.
private final class RegistryDouble: ModelRegistryService.SimpleServiceProtocol {
  private let store: ArtifactStore
  /// Calls that fall silent after their first chunk.
  private let silences: Mutex<Int>

  init(store: ArtifactStore, silences: Int = 0) {
    self.store = store
    self.silences = Mutex(silences)
  }

  var silencesLeft: Int { self.silences.withLock { $0 } }

  func getModel(
    request: GetModelRequest, response: RPCWriter<ModelChunk>, context: ServerContext
  ) async throws {
    let isSilent = self.silences.withLock { silences in
      guard silences > 0 else { return false }
      silences -= 1
      return true
    }
    if isSilent {
      var sender = try ArtifactSender(request.version, from: self.store, skipping: []).makeIterator()
      if let first = sender.next() { try await response.write(try first.get()) }
      try await Task.sleep(for: .seconds(3_600))
    }
    for chunk in try ArtifactSender(request.version, from: self.store, skipping: request.haveSha256) {
      try await response.write(try chunk.get())
    }
  }

  func registerModel(
    request: RPCAsyncSequence<ModelChunk, any Error>, context: ServerContext
  ) async throws -> RegisterModelResponse { .init() }
  func listModels(request: ListModelsRequest, context: ServerContext) async throws -> ListModelsResponse {
    .init()
  }
}

/// Desires what a test says, and notes what the robot reports.
private final class RolloutDouble: RolloutService.SimpleServiceProtocol {
  private let state = Mutex((desired: DesiredVersion(), reported: ""))

  var reported: String { self.state.withLock { $0.reported } }
  func desire(_ version: String, generation: UInt64, manifest: [UInt8] = []) {
    self.state.withLock {
      $0.desired = DesiredVersion(
        robot: "r1", version: version, releaseID: "rel-\(version)", generation: generation, epoch: 1,
        manifestSha256: manifest)
    }
  }

  func reportVersion(request: ReportVersionRequest, context: ServerContext) async throws -> DesiredVersion {
    self.state.withLock { state in
      state.reported = request.version
      return state.desired
    }
  }

  func getDesiredVersion(
    request: GetDesiredVersionRequest, context: ServerContext
  ) async throws -> DesiredVersion { self.state.withLock { $0.desired } }
  func createRelease(request: CreateReleaseRequest, context: ServerContext) async throws -> Release {
    .init()
  }
  func getRelease(request: GetReleaseRequest, context: ServerContext) async throws -> Release { .init() }
  func listReleases(
    request: ListReleasesRequest, context: ServerContext
  ) async throws -> ListReleasesResponse { .init() }
  func rollback(request: RollbackRequest, context: ServerContext) async throws -> Release { .init() }
  func startExperiment(request: StartExperimentRequest, context: ServerContext) async throws -> Experiment {
    .init()
  }
  func getExperiment(request: GetExperimentRequest, context: ServerContext) async throws -> Experiment {
    .init()
  }
  func listExperiments(
    request: ListExperimentsRequest, context: ServerContext
  ) async throws -> ListExperimentsResponse { .init() }
  func endExperiment(request: EndExperimentRequest, context: ServerContext) async throws -> Experiment {
    .init()
  }
  func getFleetVersions(
    request: GetFleetVersionsRequest, context: ServerContext
  ) async throws -> FleetVersions { .init() }
}

extension AgentTests {
  @Test func actsWithWhatTheFleetReleasesAndGoesBack() async throws {
    let keys = self.folder.path + "/keys"
    try SystemDisk().makeFolder(keys)
    let key = try SigningKey.loadOrCreate(at: keys + "/signing")
    let store = try ArtifactStore(folder: self.folder.path + "/registry")
    for (serial, version) in ["v1", "v2"].enumerated() {
      let file = try store.store([UInt8](repeating: UInt8(serial), count: 700_000), name: "weights")
      try store.save(
        try key.sign(
          ModelManifest(version: version, tasks: ["reach-v3"], files: [file], serial: UInt64(serial))))
    }
    let (rollout, inference) = (RolloutDouble(), InferenceStub())
    let rolloutServer = GRPCServer(
      transport: try ZeroMQServerTransport(bind: self.sockets.endpoint("rollout.rpc")),
      services: [rollout, RegistryDouble(store: store)])
    let inferenceServer = GRPCServer(
      transport: try ZeroMQServerTransport(bind: self.sockets.endpoint("inference.rpc")),
      services: [inference])
    let serving = [Task { try await rolloutServer.serve() }, Task { try await inferenceServer.serve() }]
    let settings: (inout AgentSettings) -> Void = {
      $0.trustedKeys = keys
      $0.robot.actionBudget = .seconds(20)
    }
    try await self.withAgent(configure: settings) { robot, client in
      rollout.desire("v1", generation: 1)
      try await eventually("v1 is reported; \(robot.model.installError)") { rollout.reported == "v1" }
      rollout.desire("v2", generation: 2)
      try await eventually("v2 is reported; \(robot.model.installError)") { rollout.reported == "v2" }
      try await eventually("inference answers") {
        await robot.remote?.act(Observation(task: "t"), version: "v2", sha256: [], budget: .seconds(1)) != nil
      }
      let program = try self.program("synthetic", ["--size", "64", "--steps", "5"])
      _ = try await client.enqueue(Messages.order("o1", seeds: [1], mode: .policy))
      try await eventually("the trial is filed; the program said: \(program.text)") {
        robot.spool.usage.filed == 1
      }
      let entry = try #require(await robot.spool.pending.first)
      let events = try #require(try await robot.spool.events(of: entry.trialID))
      #expect(events.header?.modelVersion == "v2" && events.header?.releaseID == "rel-v2")
      #expect(
        events.steps.allSatisfy { $0.modelVersion == "v2" && !$0.fallback && $0.action == [1, 0, 0, 0] })
      let content = try store.manifest(of: "v2").sha256
      #expect(inference.contents.value.withLock { $0.last } == content, "it names what it holds itself")
      inferenceServer.beginGracefulShutdown()
      rollout.desire("v1", generation: 3)
      try await eventually("what may be a stale order is refused") {
        robot.model.installError.contains("tooOld")
      }
      rollout.desire("v1", generation: 4, manifest: try store.manifest(of: "v1").sha256)
      try await eventually("v1 is back") { rollout.reported == "v1" }
      program.signal(SIGTERM)
      try await program.wait()
    }
    #expect(try self.folder.names("models/manifests") == ["v1", "v2"])
    for task in serving { task.cancel() }
  }

  @Test func `a registry that falls silent in the midst of a model does not hold a robot up`() async throws {
    let keys = self.folder.path + "/keys"
    try SystemDisk().makeFolder(keys)
    let key = try SigningKey.loadOrCreate(at: keys + "/signing")
    let store = try ArtifactStore(folder: self.folder.path + "/registry")
    let file = try store.store([UInt8](repeating: 1, count: 700_000), name: "weights")
    try store.save(
      try key.sign(ModelManifest(version: "v1", tasks: ["reach-v3"], files: [file], serial: 1)))
    let (rollout, registry) = (RolloutDouble(), RegistryDouble(store: store, silences: 2))
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: self.sockets.endpoint("rollout.rpc")),
      services: [rollout, registry])
    let serving = Task { try await server.serve() }
    rollout.desire("v1", generation: 1)
    let settings: (inout AgentSettings) -> Void = {
      $0.trustedKeys = keys
      $0.fetchPatience = .milliseconds(500)
    }
    try await self.withAgent(configure: settings) { robot, _ in
      try await eventually("the silence is told") { robot.model.installError.contains("did not get on") }
      try await eventually("v1 is reported; \(robot.model.installError)") { rollout.reported == "v1" }
    }
    #expect(registry.silencesLeft == 0)
    serving.cancel()
  }

  @Test func refusesAReleaseThatNobodyTrustedSigned() async throws {
    let keys = self.folder.path + "/keys"
    try SystemDisk().makeFolder(keys)
    _ = try SigningKey.loadOrCreate(at: keys + "/trusted")
    let store = try ArtifactStore(folder: self.folder.path + "/registry")
    let file = try store.store([1, 2, 3], name: "weights")
    try store.save(try SigningKey().sign(ModelManifest(version: "v1", tasks: ["t"], files: [file])))
    let rollout = RolloutDouble()
    rollout.desire("v1", generation: 1)
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: self.sockets.endpoint("rollout.rpc")),
      services: [rollout, RegistryDouble(store: store)])
    let serving = Task { try await server.serve() }
    try await self.withAgent(configure: { $0.trustedKeys = keys }) { robot, _ in
      try await eventually("the refusal is told") { robot.model.installError.contains("untrustedKey") }
      #expect(robot.model.current == nil)
      #expect(robot.heartbeat().installError.contains("not trusted here"))
    }
    serving.cancel()
  }
}
