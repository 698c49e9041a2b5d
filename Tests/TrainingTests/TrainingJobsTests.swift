import Artifacts
import Bus
import Foundation
import GRPCCore
import Logging
import Policy
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing

@testable import TrainingCore

/// The whole service over real sockets, with an ingest and a registry that hold what a test gives them.
@Suite struct TrainingJobsTests {
  let folder: TemporaryFolder
  let key: SigningKey
  let trust: ModelTrust

  init() throws {
    self.folder = try TemporaryFolder()
    self.key = try SigningKey.loadOrCreate(at: "\(self.folder.path)/data/signing.key")
    self.trust = ModelTrust(keys: [self.key.verificationKey])
  }

  typealias Client = TrainingService.Client<ZeroMQClientTransport>

  /// Starts ingest, registry and training, and ends them after `body`.
  func withTraining(
    _ ingest: FakeIngest, data: String = "data", vitals: Vitals = Vitals(), disk: any Disk = SystemDisk(),
    renewalPause: Duration = .milliseconds(100),
    body: @escaping @Sendable (Client, FakeRegistry) async throws -> Void
  ) async throws {
    let registry = try FakeRegistry(folder: "\(self.folder.path)/registry-\(data)", trust: self.trust)
    let endpoint = try Endpoint("ipc://\(self.folder.path)/s\(UUID().uuidString.prefix(6))")
    let client = GRPCClient(transport: try ZeroMQClientTransport(connect: endpoint))
    var settings = TrainingSettings.Values(
      data: "\(self.folder.path)/\(data)", key: "\(self.folder.path)/data/signing.key")
    settings.renewalPause = renewalPause
    let jobs = try TrainingJobs(
      settings: settings,
      peers: Peers(
        ingest: IngestService.Client(wrapping: client),
        registry: ModelRegistryService.Client(wrapping: client)),
      metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }), disk: disk,
      publish: { _ in })
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: endpoint),
      services: [ingest, registry, TrainingEndpoint(jobs)])
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      group.addTask { try await client.runConnections() }
      let work = Task { try await jobs.run() }
      let result: Result<Void, any Error>
      do {
        result = .success(try await body(Client(wrapping: client), registry))
      } catch {
        result = .failure(error)
      }
      work.cancel()
      _ = await work.result
      client.beginGracefulShutdown()
      server.beginGracefulShutdown()
      try? await group.waitForAll()
      try result.get()
    }
  }

  func request(
    _ kind: TrainingKind, _ version: String, parent: String = "", tasks: [String] = [], steps: UInt32 = 40,
    freeze: Bool = false
  ) -> StartTrainingRequest {
    StartTrainingRequest(
      kind: kind, version: version, parent: parent, query: TrialQuery(tasks: tasks),
      policy: kind == .pretrain ? Synthetic.policy : nil,
      configuration: TrainingConfiguration(
        optimizerSteps: steps, batchSize: 16, learningRate: 3e-3, freezeEncoder: freeze, seed: 3,
        checkpointSteps: 10))
  }

  /// Waits for a job's end.
  @discardableResult
  func finish(_ client: Client, _ job: TrainingJob) async throws -> TrainingJob {
    try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
      for try await _ in response.messages {}
    }
    return try await client.getJob(GetJobRequest(jobID: job.jobID))
  }

  @Test func trialsBecomeASignedModelThatActs() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open", "close"], each: 6))
    try await self.withTraining(ingest) { client, registry in
      let started = try await client.startTraining(self.request(.pretrain, "v1"))
      let job = try await self.finish(client, started)
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      #expect(job.progress?.step == 40)
      let (manifest, files) = try registry.store.open("v1", trust: self.trust)
      #expect(manifest == job.manifest)
      #expect(manifest.tasks == ["close", "open"])
      let days = (manifest.expiresUnixNanos - manifest.createdUnixNanos) / 86_400_000_000_000
      #expect(days == 90, "a model's time is over some day, unless a setting says otherwise")
      #expect(manifest.optimizerSteps == 40 && manifest.serial == 1 && manifest.parameters > 1_000)
      #expect(manifest.metrics["validation_loss"].map { $0.isFinite && $0 < 1 } == true)
      #expect(manifest.datasetSnapshot == "tasks:")
      let engine = try InferenceEngine(manifest: manifest, files: files)
      let seen = try engine.prepare(
        Observation(
          task: "open", image: Array(repeating: 9, count: 768), imageHeight: 16, imageWidth: 16,
          jointAngles: Array(repeating: 0, count: 7)))
      #expect(try engine.actions(for: [seen])[0].count == 4)
      let query = ingest.queries.withLock { $0[0] }
      #expect(query.trainableOnly && !query.includeQuarantined)
      // Asked again it is the same job; another one may not take its version.
      #expect(try await client.startTraining(self.request(.pretrain, "v1")).jobID == started.jobID)
      await #expect(throws: RPCError.self) {
        try await client.startTraining(self.request(.pretrain, "v1", steps: 41))
      }
    }
  }

  @Test func `a job learns without one lost trial and fails for many, and says both`() async throws {
    func lost(_ count: Int) -> [[TrialEvent]] {
      (0..<count).map { [TrialEvent(robot: "r9", trialID: "lost-\($0)", missing: "damaged")] }
    }
    try await self.withTraining(FakeIngest(lost(1) + Synthetic.trials(["open"], each: 6))) { client, _ in
      let job = try await self.finish(client, try await client.startTraining(self.request(.pretrain, "v1")))
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      #expect(job.progress?.missingTrials == 1)
      #expect(job.manifest?.missingTrials == 1)
    }
    let ingest = FakeIngest(lost(2) + Synthetic.trials(["open"], each: 6))
    try await self.withTraining(ingest, data: "other") { client, _ in
      let job = try await self.finish(client, try await client.startTraining(self.request(.pretrain, "v1")))
      #expect(job.progress?.state == .failed)
      let error = job.progress?.error ?? ""
      #expect(error.contains("r9/lost-0") && error.contains("2 of the 8"), "\(error)")
    }
  }

  @Test func aNewTaskLeavesTheOldOnesBitByBit() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open", "close", "push"], each: 5))
    try await self.withTraining(ingest) { client, registry in
      let first = self.request(.pretrain, "v1", tasks: ["open", "close"])
      try await self.finish(client, client.startTraining(first))
      let second = self.request(.finetune, "v2", parent: "v1", freeze: true)
      let job = try await self.finish(client, client.startTraining(second))
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      let (old, _) = try registry.store.open("v1", trust: self.trust)
      let (new, _) = try registry.store.open("v2", trust: self.trust)
      #expect(new.tasks == ["open", "close", "push"])
      #expect(new.parent == "v1" && new.serial == 2)
      #expect(old.files.map(\.sha256) == new.files.prefix(3).map(\.sha256))
      #expect(new.files.count == 4)
      // An update moves everything.
      let third = self.request(.update, "v3", parent: "v2", steps: 5)
      try await self.finish(client, client.startTraining(third))
      let (updated, _) = try registry.store.open("v3", trust: self.trust)
      #expect(zip(updated.files, new.files).allSatisfy { $0.sha256 != $1.sha256 })
      #expect(updated.jointMean == old.jointMean)
    }
  }

  @Test func anInterruptedJobGoesOnAndMakesTheSameModel() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open", "close"], each: 6))
    let request = self.request(.pretrain, "v1", steps: 600)
    try await self.withTraining(ingest, data: "whole") { client, registry in
      let job = try await self.finish(client, client.startTraining(request))
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
    }
    let whole = try ArtifactStore(folder: "\(self.folder.path)/registry-whole").open("v1", trust: self.trust)

    try await self.withTraining(ingest, data: "torn") { client, _ in
      let job = try await client.startTraining(request)
      // Into the optimisation, then the process ends.
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages where progress.state == .running { break }
      }
    }
    try await self.withTraining(ingest, data: "torn") { client, _ in
      let jobs = try await client.listJobs(ListJobsRequest()).jobs
      #expect(jobs.count == 1)
      let job = try await self.finish(client, jobs[0])
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
    }
    let torn = try ArtifactStore(folder: "\(self.folder.path)/registry-torn").open("v1", trust: self.trust)
    #expect(whole.files == torn.files)
    #expect(ingest.reads.withLock { $0 } == 3, "the torn job was read, interrupted, and read again")
    #expect(ingest.queries.withLock { $0.count } == 2, "a job keeps its snapshot over a restart")
  }

  @Test func `what was learned waits for a registry that is slow, busy or set up wrongly`() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
    try await self.withTraining(ingest) { client, registry in
      registry.refusals.withLock {
        $0 = [.code(.resourceExhausted), .code(.deadlineExceeded), .code(.permissionDenied)]
      }
      let job = try await self.finish(client, client.startTraining(self.request(.pretrain, "v1", steps: 2)))
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      #expect(registry.attempts.withLock { $0 } == 4 && ingest.reads.withLock { $0 } == 1)
      // What it never takes ends the job.
      registry.refusals.withLock { $0 = [.code(.alreadyExists)] }
      let other = try await self.finish(
        client, client.startTraining(self.request(.pretrain, "v2", steps: 2)))
      #expect(other.progress?.state == .failed)
    }
  }

  @Test func `a process that ends while the registry has the model loses no model`() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
    try await self.withTraining(ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      _ = try await client.startTraining(self.request(.pretrain, "v1", steps: 2))
      while registry.attempts.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(10)) }
    }
    try await self.withTraining(ingest) { client, _ in
      let job = try await self.finish(client, try await client.listJobs(ListJobsRequest()).jobs[0])
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
    }
    #expect(ingest.reads.withLock { $0 } == 1, "what was learned is not learned again")
  }

  @Test func `a job that was cancelled stays so after kill -9, and leaves its version no model`() async throws
  {
    let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
    let path = Mutex("")
    try await self.withTraining(ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      let job = try await client.startTraining(self.request(.pretrain, "v1", steps: 2))
      path.withLock { $0 = "\(self.folder.path)/data/jobs/\(job.jobID)" }
      while registry.attempts.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(10)) }
      _ = try await client.cancelJob(CancelJobRequest(jobID: job.jobID))
    }
    // As a kill leaves it that comes once the cancellation is answered, before the job has ended.
    let folder = path.withLock { $0 }
    #expect(FileManager.default.fileExists(atPath: "\(folder)/cancelled"))
    var job = try TrainingJob(serializedBytes: CheckedFile.read("\(folder)/job", limit: 1 << 20))
    job.progress?.state = .registering
    try CheckedFile.write(job.serializedBytes(), to: "\(folder)/job")
    try await self.withTraining(ingest) { client, registry in
      let job = try await self.finish(client, try await client.listJobs(ListJobsRequest()).jobs[0])
      #expect(job.progress?.state == .cancelled)
      #expect(registry.store.versions().isEmpty)
      let other = try await self.finish(
        client, client.startTraining(self.request(.pretrain, "v1", steps: 3)))
      #expect(other.manifest?.optimizerSteps == 3, "\(other.progress?.error ?? "")")
    }
  }

  @Test func `a damaged job is told with its file, which stays, and leaves its version no model`()
    async throws
  {
    let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
    try await self.withTraining(ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      _ = try await client.startTraining(self.request(.pretrain, "v1", steps: 2))
      while registry.attempts.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(10)) }
    }
    let jobs = "\(self.folder.path)/data/jobs"
    let name = try #require(
      try FileManager.default.contentsOfDirectory(atPath: jobs).first { $0.hasSuffix("-v1") })
    let file = URL(filePath: "\(jobs)/\(name)/job")
    var bytes = try Data(contentsOf: file)
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: file)
    let vitals = Vitals()
    try await self.withTraining(ingest, vitals: vitals) { client, _ in
      #expect(vitals.broken.map(\.part) == ["jobs"])
      #expect(vitals.broken.first?.reason.contains(file.path) == true)
      #expect(try await client.listJobs(ListJobsRequest()).jobs.isEmpty)
      let job = try await self.finish(
        client, client.startTraining(self.request(.pretrain, "v1", steps: 3)))
      #expect(job.manifest?.optimizerSteps == 3, "\(job.progress?.error ?? "")")
    }
    #expect(try Data(contentsOf: file) == bytes)
  }

  @Test func `a disk that takes no job is told until it takes one`() async throws {
    let vitals = Vitals()
    let jobs = "\(self.folder.path)/data/jobs"
    try await self.withTraining(FakeIngest([]), vitals: vitals) { client, _ in
      try FileManager.default.moveItem(atPath: jobs, toPath: "\(jobs)-away")
      try Data().write(to: URL(filePath: jobs))
      let error = await #expect(throws: RPCError.self) {
        try await client.startTraining(self.request(.pretrain, "v1"))
      }
      #expect(error?.code == .internalError && error?.message.contains(jobs) == true, "\(error as Any)")
      #expect(vitals.broken.map(\.part) == ["job store"])
      try FileManager.default.removeItem(atPath: jobs)
      try FileManager.default.moveItem(atPath: "\(jobs)-away", toPath: jobs)
      _ = try await client.startTraining(self.request(.pretrain, "v1"))
      #expect(vitals.broken.isEmpty)
    }
  }

  @Test func aCancelledJobMakesNoModelAndFreesItsVersion() async throws {
    let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
    try await self.withTraining(ingest) { client, registry in
      let running = try await client.startTraining(self.request(.pretrain, "v1", steps: 1_000_000))
      let waiting = try await client.startTraining(self.request(.pretrain, "v2"))
      let cancelled = try await client.cancelJob(CancelJobRequest(jobID: waiting.jobID))
      #expect(cancelled.progress?.state == .cancelled)
      _ = try await client.cancelJob(CancelJobRequest(jobID: running.jobID))
      let ended = try await self.finish(client, running)
      #expect(ended.progress?.state == .cancelled)
      #expect(registry.store.versions().isEmpty)
      let again = try await client.startTraining(self.request(.pretrain, "v1", steps: 2))
      let made = try await self.finish(client, again)
      #expect(made.progress?.state == .done, "\(made.progress?.error ?? "")")
    }
  }

  @Test func requestsThatCannotBeDoneAreRefusedWithAReason() async throws {
    try await self.withTraining(FakeIngest(Synthetic.trials(["open"], each: 2))) { client, _ in
      func code(_ change: (inout StartTrainingRequest) -> Void) async -> RPCError.Code? {
        var request = self.request(.pretrain, "v1")
        change(&request)
        do {
          _ = try await client.startTraining(request)
          return nil
        } catch { return (error as? RPCError)?.code }
      }
      #expect(await code { $0.version = "../v1" } == .invalidArgument)
      #expect(await code { $0.kind = .unspecified } == .invalidArgument)
      #expect(await code { $0.parent = "v0" } == .invalidArgument)
      #expect(await code { $0.kind = .update } == .invalidArgument)
      #expect(
        await code {
          $0.kind = .update; $0.parent = "v0"
        } == .notFound)
      #expect(await code { $0.configuration?.loss = "hinge" } == .invalidArgument)
      #expect(await code { $0.policy?.imageSize = 9_999 } == .invalidArgument)
      await #expect(throws: RPCError.self) { try await client.getJob(GetJobRequest(jobID: "nobody")) }
      // A task without a trial is told when the data is there.
      let job = try await client.startTraining(self.request(.pretrain, "v9", tasks: ["open", "fly"]))
      let ended = try await self.finish(client, job)
      #expect(ended.progress?.state == .failed)
      #expect(ended.progress?.error.contains("fly") == true)
    }
  }
}
