import Artifacts
import Bus
import Foundation
import GRPCCore
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing

@testable import TrainingCore

/// What disks, registries and operators do to a job, and that what was learned outlives it.
@Suite("Training jobs in trouble", .timeLimit(.minutes(5)))
struct JobTroubleTests {
  private let suite: TrainingJobsTests
  private let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
  private var folder: String { "\(self.suite.folder.path)/data" }

  init() throws { self.suite = try TrainingJobsTests() }

  private func request(_ version: String = "v1", steps: UInt32 = 2) -> StartTrainingRequest {
    self.suite.request(.pretrain, version, steps: steps)
  }

  private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(10)) }
  }

  /// A model is learned, kept, and its process ends while the registry says nothing.
  private func keep() async throws {
    try await self.suite.withTraining(self.ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      _ = try await client.startTraining(self.request())
      try await self.until { registry.attempts.withLock { $0 } > 0 }
    }
  }

  /// What may happen to a model that is kept while the registry is away.
  enum Harm: CaseIterable {
    case files, manifest, time

    func done(to folder: String, key: SigningKey) throws {
      switch self {
      case .files:
        let objects = "\(folder)/models/objects"
        for name in try FileManager.default.contentsOfDirectory(atPath: objects) {
          try self.damage("\(objects)/\(name)")
        }
      case .manifest: try self.damage("\(folder)/models/manifests/v1")
      case .time:
        // As where the clock jumps ahead.
        let store = try ArtifactStore(folder: "\(folder)/models")
        var manifest = try ManifestRules.decode(try store.manifest(of: "v1"))
        manifest.expiresUnixNanos = 1
        try store.save(try key.sign(manifest))
      }
    }

    private func damage(_ path: String) throws {
      var bytes = try DurableFile.read(path, limit: 1 << 30)
      bytes[bytes.count / 2] ^= 1
      try DurableFile.write(bytes, to: path)
    }
  }

  /// Harms the kept model while the registry refuses it, and waits until it was offered again or its job has ended.
  private func harm(
    _ harm: Harm, _ job: TrainingJob, _ client: TrainingJobsTests.Client, _ registry: FakeRegistry
  ) async throws {
    try await self.until { registry.attempts.withLock { $0 } > 0 }
    try harm.done(to: self.folder, key: self.suite.key)
    let before = registry.attempts.withLock { $0 }
    // The first of two may have been on its way.
    try await self.until {
      let hasEnded = try await client.getJob(GetJobRequest(jobID: job.jobID)).hasEnded
      return hasEnded || registry.attempts.withLock { $0 } > before + 1
    }
    registry.refusals.withLock { $0 = [] }
  }

  @Test func `a disk that takes no checkpoint is told and costs no job`() async throws {
    let (vitals, disk) = (Vitals(), FailingDisk())
    try await self.suite.withTraining(self.ingest, vitals: vitals, disk: disk) { client, _ in
      let job = try await client.startTraining(self.request(steps: 3_000))
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages where progress.state == .running { break }
      }
      disk.refusesAll = true
      try await self.until {
        let hasEnded = try await client.getJob(GetJobRequest(jobID: job.jobID)).hasEnded
        return hasEnded || vitals.broken.contains { $0.part == "checkpoints" }
      }
      #expect(try await client.getJob(GetJobRequest(jobID: job.jobID)).progress?.state == .running)
      disk.refusesAll = false
      let ended = try await self.suite.finish(client, job)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
    }
  }

  @Test func `a model waits for a disk that does not take it`() async throws {
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await client.startTraining(self.request(steps: 600))
      let objects = "\(self.folder)/models/objects"
      try FileManager.default.moveItem(atPath: objects, toPath: "\(objects)-away")
      try DurableFile.write([], to: objects)
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages where progress.error.contains("did not get it yet") {
          break
        }
      }
      try FileManager.default.removeItem(atPath: objects)
      try FileManager.default.moveItem(atPath: "\(objects)-away", toPath: objects)
      let ended = try await self.suite.finish(client, job)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
    }
    #expect(self.ingest.reads.withLock { $0 } == 1)
  }

  @Test func `a kept model that the disk damaged is made anew`() async throws {
    try await self.keep()
    try Harm.files.done(to: self.folder, key: self.suite.key)
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await self.suite.finish(client, client.listJobs(.init()).jobs[0])
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
    }
  }

  @Test(arguments: Harm.allCases, [false, true])
  func `a kept model that is harmed while its registry is away is made anew`(
    _ harm: Harm, afterRestart: Bool
  ) async throws {
    if afterRestart { try await self.keep() }
    try await self.suite.withTraining(self.ingest) { client, registry in
      registry.refusals.withLock { $0 = ArraySlice(repeatElement(.code(.resourceExhausted), count: 1_000)) }
      let job =
        afterRestart
        ? try await client.listJobs(.init()).jobs[0] : try await client.startTraining(self.request())
      try await self.harm(harm, job, client, registry)
      let ended = try await self.suite.finish(client, job)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
    }
    #expect(self.ingest.reads.withLock { $0 } == (afterRestart ? 2 : 1), "learned again only after a restart")
  }

  @Test func `a model that nobody would accept ends its job`() async throws {
    let client = GRPCClient(
      transport: try ZeroMQClientTransport(connect: Endpoint("ipc://\(self.suite.folder.path)/nobody")))
    let shelf = try ModelShelf(
      folder: "\(self.folder)/models", key: self.suite.key,
      peers: Peers(
        ingest: IngestService.Client(wrapping: client),
        registry: ModelRegistryService.Client(wrapping: client)))
    let manifest = ModelManifest(
      version: "v1", tasks: (0...ManifestRules.maximumTasks).map { "task-\($0)" })
    let thrown = await #expect(throws: TrainingError.self) { try await shelf.keep(manifest, files: []) }
    let error = try #require(thrown)
    #expect(!JobControl.mayPass(error) && !JobControl.isMendable(error), "\(error)")
    #expect(error.description.contains("1001 tasks"), "\(error)")
  }

  @Test func `a parent on its way loses nothing to jobs that are started meanwhile`() async throws {
    try await self.suite.withTraining(self.ingest) { client, registry in
      try await self.suite.finish(client, client.startTraining(self.request()))
      for part in ["objects", "manifests"] {
        let path = "\(self.folder)/models/\(part)"
        for name in try FileManager.default.contentsOfDirectory(atPath: path) {
          try FileManager.default.removeItem(atPath: "\(path)/\(name)")
        }
      }
      let others = Mutex(0)
      registry.beforeLastPiece.withLock {
        $0 = {
          let number = others.withLock { count in
            count += 1
            return count
          }
          _ = try await client.startTraining(self.request("other-\(number)"))
        }
      }
      let job = try await self.suite.finish(
        client, client.startTraining(self.suite.request(.update, "v2", parent: "v1", steps: 2)))
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      #expect(others.withLock { $0 } == 1, "one fetch was enough")
    }
  }

  @Test func `a job that waits for a peer is cancelled at once, and the next one runs`() async throws {
    try await self.suite.withTraining(self.ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      let job = try await client.startTraining(self.request())
      let next = try await client.startTraining(self.request("v2"))
      try await self.until { registry.attempts.withLock { $0 } > 0 }
      _ = try await client.cancelJob(CancelJobRequest(jobID: job.jobID))
      #expect(try await self.suite.finish(client, job).progress?.state == .cancelled)
      #expect(try await self.suite.finish(client, next).progress?.state == .done)
    }
  }

  @Test func `a cancelled job whose model the registry has is done`() async throws {
    try await self.suite.withTraining(self.ingest) { client, registry in
      registry.refusals.withLock { $0 = ArraySlice(repeatElement(.lost, count: 1_000)) }
      let job = try await client.startTraining(self.request())
      try await self.until { registry.store.versions() == ["v1"] }
      try await self.until { try await client.listJobs(.init()).jobs[0].progress?.error.isEmpty == false }
      _ = try await client.cancelJob(CancelJobRequest(jobID: job.jobID))
      #expect(try await self.suite.finish(client, job).progress?.state == .done)
    }
  }

  @Test func `a cancellation is on the disk before it is answered, or is none`() async throws {
    try await self.suite.withTraining(self.ingest) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      let job = try await client.startTraining(self.request())
      try await self.until { registry.attempts.withLock { $0 } > 0 }
      let file = "\(self.folder)/jobs/\(job.jobID)/cancelled"
      // Nothing can be renamed to a folder that has something in it.
      try FileManager.default.createDirectory(atPath: "\(file)/full", withIntermediateDirectories: true)
      await #expect(throws: RPCError.self) {
        try await client.cancelJob(CancelJobRequest(jobID: job.jobID))
      }
      #expect(try await client.getJob(GetJobRequest(jobID: job.jobID)).progress?.state == .registering)
      try FileManager.default.removeItem(atPath: file)
      _ = try await client.cancelJob(CancelJobRequest(jobID: job.jobID))
      #expect(FileManager.default.fileExists(atPath: file))
    }
  }

  @Test func `what a cancelled job left is no part of the next one of its version`() async throws {
    try await self.keep()
    // As kill -9 leaves it between the word that is kept and the tidying up.
    let id = try #require(
      FileManager.default.contentsOfDirectory(atPath: "\(self.folder)/jobs").first { $0.hasSuffix("-v1") })
    let file = "\(self.folder)/jobs/\(id)/job"
    var job = try TrainingJob(serializedBytes: CheckedFile.read(file, limit: 1 << 20))
    job.progress?.state = .cancelled
    try CheckedFile.write(job.serializedBytes(), to: file)
    try await self.suite.withTraining(self.ingest) { client, _ in
      let made = try await self.suite.finish(client, client.startTraining(self.request(steps: 3)))
      #expect(made.progress?.state == .done, "\(made.progress?.error ?? "")")
      #expect(made.manifest?.optimizerSteps == 3)
    }
  }
}
