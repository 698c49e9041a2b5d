internal import Artifacts
internal import GRPCCore
internal import Logging
internal import Policy
internal import Schemas
internal import Storage

/// One job from its request to a registered model. Every stage can be done again after a kill.
struct JobPipeline: Sendable {
  let peers: Peers
  let shelf: ModelShelf
  let store: JobStore
  let settings: TrainingSettings.Values
  let logger: Logger

  /// - Parameter tell: takes word of the job's progress, in order.
  /// - Returns: the registered model's manifest.
  func run(
    _ job: TrainingJob, control: JobControl, tell: @escaping @Sendable (TrainingProgress) -> Void
  ) async throws -> ModelManifest {
    guard let request = job.request else { throw TrainingError(.invalidRequest, "The job has no request.") }
    let waits = self.waits(tell, .loading, "It waits")
    try await control.insisting(failed: waits) {
      if try self.store.isCancelled(job.jobID) { control.request(.cancelled) }
    }
    try control.check()
    if let manifest = await self.shelf.kept(request.version) {
      // It was made before a kill; only the registry may not know it. One that the disk damages now is made anew.
      do {
        return try await self.register(control, tell) { manifest }
      } catch let error where JobControl.isMendable(error) {
        self.logger.warning(
          "makes a damaged model anew", metadata: ["job": "\(job.jobID)", "error": "\(error)"])
      }
    }
    tell(TrainingProgress(state: .loading))
    let learned = self.store.hasCheckpoint(job.jobID)
    @Sendable func get<Result: Sendable>(
      _ body: @Sendable () async throws -> Result
    ) async throws -> Result {
      if learned { return try await control.insisting(mends: true, failed: waits, body) }
      return try await control.retrying(body)
    }
    let parent =
      request.kind == .pretrain
      ? nil : try await get { try await self.shelf.parent(request.parent, begun: learned) }
    let network = try NetworkConfiguration(parent?.manifest.policy ?? request.policy ?? .init())
    let configuration = JobPlan.configuration(request.kind, request.configuration ?? .init())
    let options = try TrainingOptions(configuration, imageSize: network.imageSize)
    let renewal = SnapshotRenewal(
      peers: self.peers, missingPercent: self.settings.missingPercent, pause: self.settings.renewalPause)
    let (samples, snapshot, missing) = try await get {
      try await self.load(job.jobID, request.query ?? .init(), network, control, renewal)
    }
    if missing > 0 { tell(TrainingProgress(state: .loading, missingTrials: missing)) }
    let plan = try JobPlan(
      kind: request.kind, request: request, parentTasks: parent?.manifest.tasks ?? [],
      dataTasks: samples.tasks,
      options: options)
    try control.check()
    let store = self.store
    let logger = self.logger
    let optimisation = Optimisation(
      network: network, options: options, plan: plan, parent: parent.map { ($0.manifest.tasks, $0.files) },
      samples: samples, threads: self.settings.threads, control: control,
      loadCheckpoint: { try store.checkpoint(of: job.jobID) },
      saveCheckpoint: { try store.saveCheckpoint($0, of: job.jobID) }, tell: tell,
      warn: { logger.warning("\($0)", metadata: ["job": "\(job.jobID)"]) })
    let result = try await control.insisting(failed: waits) {
      try await offPool("fleetloop.training.optimisation") { try optimisation.run() }
    }
    tell(TrainingProgress(state: .registering))
    let models = try await control.insisting(failed: self.registryWaits(tell)) {
      try await self.peers.models()
    }
    let serial = (models.map(\.serial).max() ?? 0) + 1
    return try await self.register(control, tell, mends: true) {
      // Made each time: its time begins now.
      let manifest = self.manifest(
        request, configuration, network, snapshot, missing, serial, result)
      return try await self.shelf.keep(manifest, files: result.files)
    }
  }

  /// - Parameter keep: keeps the model on the shelf, where it is not there yet.
  private func register(
    _ control: JobControl, _ tell: @escaping @Sendable (TrainingProgress) -> Void, mends: Bool = false,
    keep: @Sendable () async throws -> ModelManifest
  ) async throws -> ModelManifest {
    tell(TrainingProgress(state: .registering))
    return try await control.insisting(mends: mends, failed: self.registryWaits(tell)) {
      let manifest = try await keep()
      try await self.shelf.register(manifest.version)
      return manifest
    }
  }

  private func registryWaits(
    _ tell: @escaping @Sendable (TrainingProgress) -> Void
  ) -> @Sendable (any Error) -> Void {
    self.waits(tell, .registering, "The registry did not get it yet")
  }

  /// Says why a job does not get on.
  private func waits(
    _ tell: @escaping @Sendable (TrainingProgress) -> Void, _ state: TrainingState, _ what: String
  ) -> @Sendable (any Error) -> Void {
    { error in
      let text = (error as? RPCError)?.message ?? TrainingError.text(error)
      tell(TrainingProgress(state: state, error: "\(what): \(text)"))
    }
  }

  private func load(
    _ job: String, _ query: TrialQuery, _ network: NetworkConfiguration, _ control: JobControl,
    _ renewal: SnapshotRenewal
  ) async throws -> (samples: TrialSamples, snapshot: String, missing: UInt64) {
    let known = try await self.snapshot(job, query)
    do {
      return try await self.load(job, from: known.id, network, control)
    } catch let error as RPCError where [.notFound, .dataLoss].contains(error.code) {
      let again = try await renewal.renew(
        known, query, hasLearned: self.store.hasCheckpoint(job), after: error)
      if again.snapshotID != known.id {
        self.logger.warning(
          "begins anew with other data",
          metadata: ["job": "\(job)", "snapshot": "\(again.snapshotID)", "error": "\(error)"])
        try self.begin(job, with: again)
      }
      return try await self.load(job, from: again.snapshotID, network, control)
    }
  }

  private func load(
    _ job: String, from snapshot: String, _ network: NetworkConfiguration, _ control: JobControl
  ) async throws -> (samples: TrialSamples, snapshot: String, missing: UInt64) {
    let builder = try DatasetBuilder(
      network: network, folder: self.settings.data, cacheLimit: self.settings.cacheBytes)
    try await self.peers.readTrials(of: snapshot) { event in
      try control.check()
      try await builder.take(event)
    }
    let samples = try await builder.finish()
    let skipped = await builder.skipped
    for (trial, reason) in skipped.prefix(20) {
      self.logger.notice("skipped a trial", metadata: ["trial": "\(trial)", "reason": "\(reason)"])
    }
    let missing = await builder.missing
    try MissingTrials.check(
      missing, of: samples.trials.count + skipped.count + missing.count, snapshot: snapshot,
      percent: self.settings.missingPercent)
    for trial in missing.prefix(20) {
      self.logger.warning("learns without a trial that ingest has lost", metadata: ["trial": "\(trial)"])
    }
    self.logger.info(
      "dataset loaded",
      metadata: [
        "job": "\(job)", "snapshot": "\(snapshot)", "trials": "\(samples.trials.count)",
        "samples": "\(samples.images.count)", "skipped": "\(skipped.count)",
        "missing": "\(missing.count)",
      ])
    return (samples, snapshot, UInt64(missing.count))
  }

  /// After a restart the same as before: a checkpoint belongs to its data.
  private func snapshot(_ job: String, _ query: TrialQuery) async throws -> JobStore.Snapshot {
    do {
      if let known = try self.store.snapshot(of: job) { return known }
    } catch {
      guard [.corrupt, .tooLarge].contains(error.code) else { throw error }
      self.logger.warning("begins anew with new data", metadata: ["job": "\(job)", "error": "\(error)"])
    }
    return try self.begin(job, with: try await self.peers.snapshot(of: query))
  }

  /// Keeps what a job learns from; what it learned from other data goes.
  @discardableResult
  private func begin(_ job: String, with set: DatasetSnapshot) throws -> JobStore.Snapshot {
    let snapshot = JobStore.Snapshot(id: set.snapshotID, trials: UInt32(clamping: set.trials))
    try self.store.deleteCheckpoint(of: job)
    try self.store.saveSnapshot(snapshot, of: job)
    return snapshot
  }

  private func manifest(
    _ request: StartTrainingRequest, _ configuration: TrainingConfiguration, _ network: NetworkConfiguration,
    _ snapshot: String, _ missing: UInt64, _ serial: UInt64, _ result: Optimisation.Result
  ) -> ModelManifest {
    var metrics = ["train_loss": result.trainLoss]
    if !result.validationLoss.isNaN { metrics["validation_loss"] = result.validationLoss }
    let created = unixNanos()
    let life = Int64(self.settings.modelDays) * 86_400_000_000_000
    return ModelManifest(
      version: request.version, parent: request.kind == .pretrain ? "" : request.parent,
      policy: network.message, tasks: result.tasks, datasetSnapshot: snapshot, training: configuration,
      metrics: metrics, parameters: UInt64(result.parameters), optimizerSteps: UInt64(result.steps),
      trainSeconds: result.seconds, samplesPerSecond: result.samplesPerSecond, createdUnixNanos: created,
      expiresUnixNanos: life == 0 ? 0 : created + life,
      jointMean: result.jointMean, jointDeviation: result.jointDeviation, serial: serial,
      missingTrials: missing)
  }
}
