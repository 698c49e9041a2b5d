import Artifacts
import Bus
import Foundation
import GRPCCore
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

/// The real program, killed while it trains.
@Suite(.timeLimit(.minutes(5))) struct KillTests {
  let folder: TemporaryFolder
  let trust: ModelTrust

  init() throws {
    self.folder = try TemporaryFolder()
    let key = try SigningKey.loadOrCreate(at: "\(self.folder.path)/signing.key")
    self.trust = ModelTrust(keys: [key.verificationKey])
  }

  /// Starts the program and waits until it says that it is up.
  func start() async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      "training",
      settings: [
        "training.rpc": "ipc://\(self.folder.path)/training",
        "training.publications": "ipc://\(self.folder.path)/words",
        "ingest.rpc": "ipc://\(self.folder.path)/peers", "rollout.rpc": "ipc://\(self.folder.path)/peers",
        "training.data": "\(self.folder.path)/data",
        "training.signing-key": "\(self.folder.path)/signing.key",
        "training.threads": "1",
      ])
  }

  func withClient<Result: Sendable>(
    _ body: @Sendable @escaping (TrainingService.Client<ZeroMQClientTransport>) async throws -> Result
  ) async throws -> Result {
    try await withGRPCClient(
      transport: ZeroMQClientTransport(connect: Endpoint("ipc://\(self.folder.path)/training"))
    ) { try await body(TrainingService.Client(wrapping: $0)) }
  }

  /// Waits for a job's end and returns it.
  func finish(_ job: TrainingJob) async throws -> TrainingJob {
    try await self.withClient { client in
      try await client.watchJob(GetJobRequest(jobID: job.jobID), options: .within(.seconds(120))) {
        response in
        for try await _ in response.messages {}
      }
      return try await client.getJob(GetJobRequest(jobID: job.jobID), options: .within(.seconds(10)))
    }
  }

  func request(_ version: String) -> StartTrainingRequest {
    StartTrainingRequest(
      kind: .pretrain, version: version, query: TrialQuery(), policy: Synthetic.policy,
      configuration: TrainingConfiguration(
        optimizerSteps: 1_500, batchSize: 16, learningRate: 3e-3, seed: 3, checkpointSteps: 50))
  }

  @Test func aJobThatIsKilledMakesTheSameModelAsOneThatIsNot() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open", "close"], each: 6))
    let registry = try FakeRegistry(folder: "\(self.folder.path)/registry", trust: self.trust)
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: Endpoint("ipc://\(self.folder.path)/peers")),
      services: [ingest, registry])
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      defer { server.beginGracefulShutdown() }
      var training = try await self.start()
      let job = try await self.withClient { client in
        try await client.startTraining(self.request("v1"), options: .within(.seconds(20)))
      }
      // Once while the data may still be coming, then twice in the optimisation, each after a newer checkpoint.
      training.kill()
      let checkpoint = "\(self.folder.path)/data/jobs/\(job.jobID)/checkpoint"
      var seen: Date?
      for _ in 0..<2 {
        training = try await self.start()
        let last = seen
        try await eventually("a newer checkpoint is written") {
          seen = try? FileManager.default.attributesOfItem(atPath: checkpoint)[.modificationDate] as? Date
          return seen != nil && seen != last
        }
        training.kill()
      }
      // A kill right at the start may fall before the snapshot's name was kept; never after a checkpoint.
      let asked = ingest.queries.withLock { $0.count }
      #expect((1...2).contains(asked))
      #expect(registry.store.versions().isEmpty)
      training = try await self.start()
      let done = try await self.finish(job)
      #expect(done.progress?.state == .done, "\(done.progress?.error ?? "")")
      #expect(done.manifest?.optimizerSteps == 1_500)

      let whole = try await self.withClient { client in
        try await client.startTraining(self.request("v2"), options: .within(.seconds(20)))
      }
      let other = try await self.finish(whole)
      #expect(other.manifest?.files == done.manifest?.files)
      #expect(other.manifest?.files.isEmpty == false)
      #expect(registry.store.versions() == ["v1", "v2"])
      #expect(ingest.queries.withLock { $0.count } == asked + 1, "a job keeps its snapshot over kills")

      #expect(training.terminate() == 0)
    }
  }
}
