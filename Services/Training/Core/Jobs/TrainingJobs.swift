internal import Artifacts
import Foundation
package import Logging
package import Schemas
package import ServiceKit
import ServiceLifecycle
package import Storage

/// Every job: those that wait, the one that runs, those that have ended. One runs at a time; all survive a restart.
package actor TrainingJobs: Service {
  /// Jobs that may wait.
  static let maximumWaiting = 32
  /// Between looks at what the disk did not take or give.
  static let lookInterval: Duration = .seconds(5)

  private let store: JobStore
  private let shelf: ModelShelf
  private let pipeline: JobPipeline
  private let peers: Peers
  private let publish: @Sendable (TrainingProgress) async -> Void
  private let metrics: MetricsRegistry
  private let logger: Logger
  /// In the order of their ids, which begin with their time.
  private var jobs: [String: TrainingJob] = [:]
  /// Jobs whose last state the disk did not take.
  private var unsaved: Set<String> = []
  /// Jobs that could not be read at the start.
  private let damages: [JobStore.Damage]
  private var waiting: [String] = []
  private var running: (id: String, stop: @Sendable (JobControl.Stop) -> Void)?
  private var isEnding = false
  private var watchers: [String: [UUID: AsyncStream<TrainingProgress>.Continuation]] = [:]
  private var wake: CheckedContinuation<Void, Never>?
  /// Words for the fleet, in order; a fleet that does not listen loses old ones.
  private let outbox: (words: AsyncStream<TrainingProgress>, put: AsyncStream<TrainingProgress>.Continuation)

  /// - Parameters:
  ///   - vitals: told of jobs that cannot be read, and of a disk that takes none.
  ///   - disk: keeps jobs.
  ///   - publish: tells the fleet about progress; must not wait long.
  /// - Throws: ``Artifacts/ArtifactError`` where the folder or the key cannot be used.
  package init(
    settings: TrainingSettings.Values, peers: Peers, metrics: MetricsRegistry, vitals: Vitals,
    logger: Logger, disk: any Disk = SystemDisk(),
    publish: @escaping @Sendable (TrainingProgress) async -> Void
  ) throws {
    let store = try JobStore(folder: "\(settings.data)/jobs", vitals: vitals, disk: disk)
    let shelf = try ModelShelf(
      folder: "\(settings.data)/models", key: SigningKey.loadOrCreate(at: settings.key), peers: peers)
    self.store = store
    self.shelf = shelf
    self.peers = peers
    self.metrics = metrics
    self.logger = logger
    self.publish = publish
    let (words, put) = AsyncStream.makeStream(
      of: TrainingProgress.self, bufferingPolicy: .bufferingNewest(256))
    self.outbox = (words, put)
    self.pipeline = JobPipeline(peers: peers, shelf: shelf, store: store, settings: settings, logger: logger)
    let (jobs, damages) = try store.load()
    self.damages = damages
    store.tell(damages)
    for damage in damages { logger.error("damaged job", metadata: ["error": "\(damage.text)"]) }
    for job in jobs {
      self.jobs[job.jobID] = job
      if !job.hasEnded { self.waiting.append(job.jobID) }
    }
  }

  // MARK: Requests

  /// Takes a job in. The same request, come again because its caller did not hear the answer, is the same job.
  /// - Throws: ``TrainingError``, ``Policy/PolicyError`` for a request that cannot be done.
  package func start(_ request: StartTrainingRequest) async throws -> TrainingJob {
    if let same = self.job(making: request.version), same.request == request { return same }
    try await request.validate(asking: self.peers)
    // Nobody has it, and nobody makes it: a model that is kept here is of a job that made none, or was lost.
    if self.job(making: request.version) == nil { try await self.shelf.forget(request.version) }
    guard !self.isEnding else { throw TrainingError(.interrupted, "Training is ending; ask again later.") }
    guard self.waiting.count < Self.maximumWaiting else {
      throw TrainingError(.busy, "\(self.waiting.count) jobs wait already; ask again when some are done.")
    }
    if let other = self.job(making: request.version) {
      if other.request == request { return other }
      throw TrainingError(
        .alreadyExists, "Job \(other.jobID) makes model \(request.version) already; choose another version.")
    }
    let id = "\(unixNanos())-\(request.version)"
    let progress = TrainingProgress(
      jobID: id, version: request.version, state: .queued, validationLoss: .nan)
    let job = TrainingJob(jobID: id, request: request, progress: progress)
    do { try self.store.save(job) } catch {
      // It stands where only a folder's sync failed, and would run after a restart.
      self.store.delete(id)
      throw TrainingError(.storage, "The job cannot be kept.", cause: error)
    }
    self.jobs[id] = job
    self.waiting.append(id)
    self.forgetOldJobs()
    self.wakeUp()
    return job
  }

  private func job(making version: String) -> TrainingJob? {
    self.jobs.values.first { $0.request?.version == version && !$0.isVoid }
  }

  package func job(_ id: String) throws -> TrainingJob {
    guard let job = self.jobs[id] else {
      throw TrainingError(
        .notFound, "There is no job '\(id.prefix(128))'. ListJobs names those that are known.")
    }
    return job
  }

  package func list() -> [TrainingJob] { self.jobs.keys.sorted().compactMap { self.jobs[$0] } }

  /// Ends a job without a model; kept before it is answered. A job that has ended stays what it is.
  /// - Throws: ``TrainingError`` `.notFound`; `.storage` where the disk does not keep it: then the job goes on.
  package func cancel(_ id: String) throws -> TrainingJob {
    let job = try self.job(id)
    guard !job.hasEnded else { return job }
    do { try self.store.cancel(id) } catch {
      throw TrainingError(.storage, "Job \(id) goes on: its cancellation cannot be kept.", cause: error)
    }
    if let running = self.running, running.id == id {
      running.stop(.cancelled)
    } else {
      self.waiting.removeAll { $0 == id }
      self.note(TrainingProgress(state: .cancelled), of: id)
    }
    return try self.job(id)
  }

  /// Progress from now on, the present state first; ends with the job.
  package func watch(_ id: String) throws -> AsyncStream<TrainingProgress> {
    let job = try self.job(id)
    let (stream, continuation) = AsyncStream.makeStream(
      of: TrainingProgress.self, bufferingPolicy: .bufferingNewest(16))
    if let progress = job.progress { continuation.yield(progress) }
    guard !job.hasEnded else {
      continuation.finish()
      return stream
    }
    let key = UUID()
    self.watchers[id, default: [:]][key] = continuation
    continuation.onTermination = { [weak self] _ in
      Task { await self?.unwatch(id, key) }
    }
    return stream
  }

  private func unwatch(_ id: String, _ key: UUID) { self.watchers[id]?[key] = nil }

  // MARK: Work

  /// Does one job after the other until the service ends.
  package func run() async throws {
    let (publish, words) = (self.publish, self.outbox.words)
    async let telling: Void = { for await word in words { await publish(word) } }()
    async let _: Void = self.lookAfterDisk()
    await withTaskCancellationOrGracefulShutdownHandler {
      while !self.isEnding {
        guard !self.waiting.isEmpty else {
          await withCheckedContinuation { self.wake = $0 }
          continue
        }
        await self.perform(self.waiting.removeFirst())
      }
      self.outbox.put.finish()
    } onCancelOrGracefulShutdown: {
      Task { await self.end() }
    }
    await telling
  }

  private func lookAfterDisk() async {
    while (try? await Task.sleep(for: Self.lookInterval)) != nil {
      // No job's state may change for hours, nor another be started.
      for id in self.unsaved { self.save(id) }
      if self.unsaved.isEmpty { self.store.probe() }
      self.store.tell(self.damages)
    }
  }

  private func end() {
    self.isEnding = true
    self.running?.stop(.interrupted)
    for watchers in self.watchers.values { for watcher in watchers.values { watcher.finish() } }
    self.wakeUp()
  }

  private func wakeUp() {
    self.wake?.resume()
    self.wake = nil
  }

  private func perform(_ id: String) async {
    guard let job = self.jobs[id] else { return }
    let control = JobControl()
    let (progress, continuation) = AsyncStream.makeStream(
      of: TrainingProgress.self, bufferingPolicy: .bufferingNewest(64))
    let pipeline = self.pipeline
    // Progress comes from a thread; it is taken here in order, and all of it before the job's last word.
    let work = Task {
      defer { continuation.finish() }
      return try await pipeline.run(job, control: control) { continuation.yield($0) }
    }
    // A call that waits for a peer ends at once.
    self.running = (
      id,
      { stop in
        control.request(stop)
        work.cancel()
      }
    )
    defer { self.running = nil }
    for await word in progress { self.note(word, of: id) }
    await self.finish(id, await work.result.mapError { control.stopped ?? $0 })
  }

  private func finish(_ id: String, _ outcome: Result<ModelManifest, any Error>) async {
    switch await self.outcomeForSure(id, outcome) {
    case .success(let manifest):
      self.jobs[id]?.manifest = manifest
      self.note(TrainingProgress(state: .done), of: id)
      self.logger.info("model registered", metadata: ["job": "\(id)", "version": "\(manifest.version)"])
    case .failure(let error):
      let code = (error as? TrainingError)?.code
      // Not the job's end: it goes on at the next start. While the process ends, calls fail in many ways.
      let isEnding = self.isEnding || Task.isCancelled || Task.isShuttingDownGracefully
      if code == .interrupted || (isEnding && code != .cancelled) { return }
      if code != .cancelled {
        self.logger.error("job failed", metadata: ["job": "\(id)", "error": "\(TrainingError.text(error))"])
      }
      if let version = self.jobs[id]?.request?.version { try? await self.shelf.forget(version) }
      self.note(
        TrainingProgress(state: code == .cancelled ? .cancelled : .failed, error: TrainingError.text(error)),
        of: id)
    }
    self.metrics.increment(
      "training_jobs_total", labels: ["state": "\(self.jobs[id]?.progress?.state ?? .unspecified)"])
    try? self.store.deleteCheckpoint(of: id)
  }

  /// A registry may have taken the model whose job was cancelled before it could say so.
  private func outcomeForSure(
    _ id: String, _ outcome: Result<ModelManifest, any Error>
  ) async -> Result<ModelManifest, any Error> {
    guard case .failure(let error as TrainingError) = outcome, error.code == .cancelled,
      let version = self.jobs[id]?.request?.version, let kept = await self.shelf.kept(version)
    else { return outcome }
    do {
      return try await self.peers.models().contains(kept) ? .success(kept) : outcome
    } catch {
      return .failure(
        TrainingError(
          .cancelled, "The job was cancelled. The registry, which may have its model, does not answer.",
          cause: error))
    }
  }

  /// Takes word of progress: kept on disk where the state changes, told to watchers and the fleet always.
  private func note(_ word: TrainingProgress, of id: String) {
    guard var job = self.jobs[id] else { return }
    var progress = word
    // A word without numbers is only a new state.
    if word.state != .running, let last = job.progress, last.totalSteps > 0 {
      progress = last
      progress.state = word.state
      progress.error = word.error
      progress.remainingSeconds = 0
    }
    // What is missing is said once and stays true.
    progress.missingTrials = max(word.missingTrials, job.progress?.missingTrials ?? 0)
    progress.jobID = id
    progress.version = job.request?.version ?? ""
    let changed = job.progress?.state != progress.state
    job.progress = progress
    self.jobs[id] = job
    if changed { self.save(id) }
    self.metrics.set("training_loss", to: progress.trainLoss)
    self.metrics.set("training_samples_per_second", to: progress.samplesPerSecond)
    for watcher in (self.watchers[id] ?? [:]).values { watcher.yield(progress) }
    if job.hasEnded {
      for watcher in (self.watchers.removeValue(forKey: id) ?? [:]).values { watcher.finish() }
    }
    self.outbox.put.yield(progress)
  }

  private func save(_ id: String) {
    guard let job = self.jobs[id] else { return }
    do {
      try self.store.save(job)
      self.unsaved.remove(id)
    } catch {
      // Said once, however often it is tried.
      if self.unsaved.insert(id).inserted {
        self.logger.error("cannot save a job", metadata: ["job": "\(id)", "error": "\(error)"])
      }
    }
  }

  private func forgetOldJobs() {
    let ended = self.list().filter(\.hasEnded)
    for job in ended.prefix(max(0, self.jobs.count - JobStore.maximumJobs)) {
      self.jobs[job.jobID] = nil
      self.unsaved.remove(job.jobID)
      self.store.delete(job.jobID)
    }
  }
}

/// Unix time in nanoseconds.
func unixNanos() -> Int64 { Int64(Date.now.timeIntervalSince1970 * 1e9) }

extension TrainingJob {
  var hasEnded: Bool { [.done, .failed, .cancelled].contains(self.progress?.state ?? .queued) }
  /// Ended without a model: its version may be used again.
  var isVoid: Bool { [.failed, .cancelled].contains(self.progress?.state ?? .queued) }
}
