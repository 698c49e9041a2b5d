import Artifacts
import Foundation
import GRPCCore
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing

@testable import TrainingCore

/// What a disk takes, gives and loses of jobs, and that a restart costs nothing of what one has learned.
@Suite("Training jobs and their disk", .timeLimit(.minutes(5)))
struct JobDiskTests {
  private let suite: TrainingJobsTests
  private let ingest = FakeIngest(Synthetic.trials(["open"], each: 5))
  private var jobs: String { "\(self.suite.folder.path)/data/jobs" }

  init() throws { self.suite = try TrainingJobsTests() }

  private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(10)) }
  }

  private func request(_ version: String = "v1", steps: UInt32 = 2) -> StartTrainingRequest {
    self.suite.request(.pretrain, version, steps: steps)
  }

  /// The folder of a job that has learned more than one step when its process ended. One step is all that is asked of it
  /// then: it takes one where it starts over, and has taken more where it does not.
  /// - Parameter kind: makes v1, or v2 from a v1 that is made before.
  private func interrupt(_ kind: TrainingKind = .pretrain) async throws -> String {
    let (version, parent) = kind == .pretrain ? ("v1", "") : ("v2", "v1")
    let request = self.suite.request(kind, version, parent: parent, steps: 600)
    try await self.suite.withTraining(self.ingest) { client, _ in
      if !parent.isEmpty { try await self.suite.finish(client, client.startTraining(self.request(parent))) }
      let job = try await client.startTraining(request)
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages where progress.state == .running && progress.step > 1 {
          break
        }
      }
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: self.jobs)
    let folder = "\(self.jobs)/\(try #require(names.first { $0.hasSuffix("-\(version)") }))"
    #expect(FileManager.default.fileExists(atPath: "\(folder)/checkpoint"))
    try self.change(folder) { $0.request?.configuration?.optimizerSteps = 1 }
    return folder
  }

  private func change(_ folder: String, _ body: (inout TrainingJob) -> Void) throws {
    var job = try TrainingJob(serializedBytes: CheckedFile.read("\(folder)/job", limit: 1 << 20))
    body(&job)
    try CheckedFile.write(job.serializedBytes(), to: "\(folder)/job")
  }

  private func expectKept(_ job: TrainingJob) {
    #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
    #expect((job.manifest?.optimizerSteps ?? 0) > 1, "it goes on with what it has learned")
  }

  // MARK: What was learned

  @Test func `a job that has learned waits for data that it does not get after a restart`() async throws {
    _ = try await self.interrupt()
    self.ingest.refusals.withLock { $0 = [.failedPrecondition, .internalError] }
    try await self.suite.withTraining(self.ingest) { client, _ in
      self.expectKept(try await self.suite.finish(client, client.listJobs(.init()).jobs[0]))
    }
    #expect(self.ingest.refusals.withLock { $0.isEmpty })
    #expect(self.ingest.queries.withLock { $0.count } == 1)
  }

  @Test(arguments: ["snapshot", "checkpoint"])
  func `what a disk does not give of a job is not taken for missing`(_ name: String) async throws {
    let folder = try await self.interrupt()
    let file = "\(folder)/\(name)"
    try FileManager.default.moveItem(atPath: file, toPath: "\(file)-away")
    try FileManager.default.createDirectory(atPath: file, withIntermediateDirectories: false)
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await client.listJobs(.init()).jobs[0]
      let states = Mutex<[TrainingState]>([])
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages {
          if progress.error.contains(file) { break }
          states.withLock { $0.append(progress.state) }
        }
      }
      #expect(!states.withLock { $0.contains(.done) || $0.contains(.failed) })
      try FileManager.default.removeItem(atPath: file)
      try FileManager.default.moveItem(atPath: "\(file)-away", toPath: file)
      self.expectKept(try await self.suite.finish(client, job))
    }
    #expect(self.ingest.queries.withLock { $0.count } == 1)
  }

  @Test func `what was learned from data that nobody can name any more is learned anew`() async throws {
    let folder = try await self.interrupt()
    var bytes = try DurableFile.read("\(folder)/snapshot", limit: 1 << 10)
    bytes[bytes.count - 1] ^= 1
    try DurableFile.write(bytes, to: "\(folder)/snapshot")
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await self.suite.finish(client, client.listJobs(.init()).jobs[0])
      #expect(job.progress?.state == .done, "\(job.progress?.error ?? "")")
      #expect(job.manifest?.datasetSnapshot == "tasks:" && job.manifest?.optimizerSteps == 1)
    }
    #expect(self.ingest.queries.withLock { $0.count } == 2)
  }

  @Test(arguments: [0, 1, 3])
  func `a set of trials that ingest has lost is made again, where it has not lost the trials`(_ few: UInt64)
    async throws
  {
    let folder = try await self.interrupt()
    self.ingest.prefix.withLock { $0 = "others:" }
    self.ingest.snapshotTrials.withLock { $0 = few }
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await client.listJobs(.init()).jobs[0]
      let next = try await client.startTraining(self.request("v2"))
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        let text = "has \(few) where it had 5"
        for try await progress in response.messages where progress.error.contains(text) { break }
      }
      // A try after the first that it told of.
      let tries = self.ingest.queries.withLock { $0.count }
      try await eventually("it asks again") { self.ingest.queries.withLock { $0.count } > tries + 1 }
      #expect(FileManager.default.fileExists(atPath: "\(folder)/checkpoint"))
      // One in a hundred may be missing, and one in any case.
      self.ingest.snapshotTrials.withLock { $0 = 4 }
      let ended = try await self.suite.finish(client, job)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
      #expect(ended.manifest?.datasetSnapshot == "others:" && ended.manifest?.optimizerSteps == 1)
      #expect(try await self.suite.finish(client, next).progress?.state == .done)
    }
  }

  @Test func `ingest is not asked for new sets again and again`() async throws {
    _ = try await self.interrupt()
    self.ingest.prefix.withLock { $0 = "others:" }
    self.ingest.snapshotTrials.withLock { $0 = 1 }
    try await self.suite.withTraining(self.ingest, renewalPause: .seconds(600)) { client, _ in
      let reads = self.ingest.reads.withLock { $0 }
      try await eventually("the job waits") { self.ingest.reads.withLock { $0 } >= reads + 4 }
      // The first one, and one that is refused.
      #expect(self.ingest.queries.withLock { $0.count } == 2)
      // The set is there again.
      self.ingest.prefix.withLock { $0 = "tasks:" }
      self.expectKept(try await self.suite.finish(client, client.listJobs(.init()).jobs[0]))
    }
  }

  @Test func `a set of before its size was kept is made again where there are trials`() async throws {
    let folder = try await self.interrupt()
    try CheckedFile.write(Array("tasks:".utf8), to: "\(folder)/snapshot")
    self.ingest.prefix.withLock { $0 = "others:" }
    self.ingest.snapshotTrials.withLock { $0 = 1 }
    try await self.suite.withTraining(self.ingest) { client, _ in
      let ended = try await self.suite.finish(client, client.listJobs(.init()).jobs[0])
      #expect(ended.progress?.state == .done && ended.manifest?.datasetSnapshot == "others:")
    }
  }

  @Test(arguments: [RPCError.Code.notFound, .dataLoss])
  func `what was learned from trials whose set is made again as it was is kept`(_ code: RPCError.Code)
    async throws
  {
    _ = try await self.interrupt()
    self.ingest.refusals.withLock { $0 = [code] }
    try await self.suite.withTraining(self.ingest) { client, _ in
      self.expectKept(try await self.suite.finish(client, client.listJobs(.init()).jobs[0]))
    }
    #expect(self.ingest.queries.withLock { $0.count } == 2)
  }

  @Test func `a file of before there were checksums is read`() async throws {
    let folder = try await self.interrupt()
    for name in ["job", "snapshot"] {
      try DurableFile.write(
        CheckedFile.read("\(folder)/\(name)", limit: 1 << 20), to: "\(folder)/\(name)")
    }
    let vitals = Vitals()
    try await self.suite.withTraining(self.ingest, vitals: vitals) { client, _ in
      #expect(vitals.broken.isEmpty)
      let known = try #require(try await client.listJobs(.init()).jobs.first)
      self.expectKept(try await self.suite.finish(client, known))
    }
    #expect(self.ingest.queries.withLock { $0.count } == 1)
    _ = try CheckedFile.read("\(folder)/job", limit: 1 << 20)
  }

  @Test func `what was learned outlives its parent's time and a damaged copy of it`() async throws {
    _ = try await self.interrupt(.update)
    try ArtifactStore(folder: "\(self.suite.folder.path)/data/models").remove("v1")
    let registry = try ArtifactStore(folder: "\(self.suite.folder.path)/registry-data")
    var manifest = try ManifestRules.decode(registry.manifest(of: "v1"))
    manifest.expiresUnixNanos = 1
    let expired = try self.suite.key.sign(manifest)
    var damaged = expired
    damaged.signature[0] ^= 1
    try registry.save(damaged)
    try await self.suite.withTraining(self.ingest) { client, _ in
      let job = try await client.listJobs(.init()).jobs[1]
      try await client.watchJob(GetJobRequest(jobID: job.jobID)) { response in
        for try await progress in response.messages where progress.error.contains("It waits") { break }
      }
      try registry.save(expired)
      self.expectKept(try await self.suite.finish(client, job))
    }
    #expect(self.ingest.queries.withLock { $0.count } == 2)
  }

  // MARK: What a disk refuses

  @Test func `a refused job does not run after a restart, whatever of it was written`() async throws {
    let disk = FailingDisk()
    var count = 0
    let failures = Mutex(0)
    repeat {
      let (version, after) = ("v\(count)", count)
      try await self.suite.withTraining(self.ingest, disk: disk) { client, _ in
        disk.fail(after: after)
        do { _ = try await client.startTraining(self.request(version)) } catch let error as RPCError {
          #expect(error.code == .internalError && error.message.contains("disk is full"), "\(error)")
          failures.withLock { $0 += 1 }
          let names = try FileManager.default.contentsOfDirectory(atPath: self.jobs)
          #expect(!names.contains { $0.hasSuffix("-\(version)") }, "after \(after) operations")
        }
      }
      count += 1
    } while failures.withLock { $0 } == count
    #expect(count > 5, "each operation failed once")
  }

  @Test func `a cancellation that failed ends no job that waits`() async throws {
    let disk = FailingDisk()
    try await self.suite.withTraining(self.ingest, disk: disk) { client, registry in
      registry.refusals.withLock { $0 = [.silence] }
      let first = try await client.startTraining(self.request())
      let waiting = try await client.startTraining(self.request("v2"))
      try await self.until { registry.attempts.withLock { $0 } > 0 }
      // Created, written, synced and renamed: only the folder's sync fails.
      disk.fail(after: 4)
      let error = await #expect(throws: RPCError.self) {
        try await client.cancelJob(CancelJobRequest(jobID: waiting.jobID))
      }
      #expect(error?.message.contains("goes on") == true, "\(error as Any)")
      _ = try await client.cancelJob(CancelJobRequest(jobID: first.jobID))
      let ended = try await self.suite.finish(client, waiting)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
    }
  }

  // MARK: What is told

  @Test func `a disk that refused a job's last word is tried again, and it is told until it takes it`()
    async throws
  {
    let (vitals, disk) = (Vitals(), FailingDisk())
    try await self.suite.withTraining(self.ingest, vitals: vitals, disk: disk) { client, registry in
      registry.refusals.withLock { $0 = ArraySlice(repeatElement(.code(.resourceExhausted), count: 1_000)) }
      let job = try await client.startTraining(self.request())
      try await self.until { registry.attempts.withLock { $0 } > 0 }
      disk.refusesAll = true
      registry.refusals.withLock { $0 = [] }
      let ended = try await self.suite.finish(client, job)
      #expect(ended.progress?.state == .done, "\(ended.progress?.error ?? "")")
      #expect(vitals.broken.map(\.part) == ["job store"])
      disk.refusesAll = false
      try await self.until { vitals.broken.isEmpty }
      let file = "\(self.jobs)/\(job.jobID)/job"
      #expect(
        try TrainingJob(serializedBytes: CheckedFile.read(file, limit: 1 << 20)).progress?.state == .done)
      // What was refused as a whole leaves nothing to be tried again.
      disk.refusesAll = true
      await #expect(throws: RPCError.self) { try await client.startTraining(self.request("v2")) }
      #expect(vitals.broken.map(\.part) == ["job store"])
      disk.refusesAll = false
      try await self.until { vitals.broken.isEmpty }
    }
  }

  @Test func `a damaged job is told until its folder is deleted`() async throws {
    let folder = try await self.interrupt()
    try DurableFile.write([], to: "\(folder)/job")
    let vitals = Vitals()
    try await self.suite.withTraining(self.ingest, vitals: vitals) { _, _ in
      #expect(vitals.broken.map(\.part) == ["jobs"])
      try FileManager.default.removeItem(atPath: folder)
      try await self.until { vitals.broken.isEmpty }
    }
  }

  @Test func `what kills left of writing goes at the next start`() async throws {
    let folder = try await self.interrupt()
    try self.change(folder) { $0.progress?.state = .cancelled }
    let models = "\(self.suite.folder.path)/data/models"
    let leftovers = [
      "\(folder)/checkpoint.1.partial", "\(models)/objects/1.partial", "\(models)/manifests/1.partial",
    ]
    for path in leftovers { try DurableFile.write([], to: path) }
    try await self.suite.withTraining(self.ingest) { client, _ in
      let known = try await client.listJobs(.init()).jobs
      #expect(known.count == 1)
      for path in leftovers + ["\(folder)/checkpoint"] {
        #expect(!FileManager.default.fileExists(atPath: path), "\(path)")
      }
    }
  }
}
