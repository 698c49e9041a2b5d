internal import Artifacts
internal import GRPCCore
internal import Logging
internal import Policy
internal import Schemas

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
    let parent =
      request.kind == .pretrain
      ? nil : try await control.retrying { try await self.shelf.parent(request.parent) }
    let network = try NetworkConfiguration(parent?.manifest.policy ?? request.policy ?? .init())
    let configuration = JobPlan.configuration(request.kind, request.configuration ?? .init())
    let options = try TrainingOptions(configuration, imageSize: network.imageSize)
    let (samples, snapshot, missing) = try await control.retrying {
      try await self.load(job.jobID, request.query ?? .init(), network, control)
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
      loadCheckpoint: { store.checkpoint(of: job.jobID) },
      saveCheckpoint: { try store.saveCheckpoint($0, of: job.jobID) }, tell: tell,
      warn: { logger.warning("\($0)", metadata: ["job": "\(job.jobID)"]) })
    let result = try await offPool("fleetloop.training.optimisation") { try optimisation.run() }
    tell(TrainingProgress(state: .registering))
    let models = try await control.insisting(failed: self.waits(tell)) { try await self.peers.models() }
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
    return try await control.insisting(mends: mends, failed: self.waits(tell)) {
      let manifest = try await keep()
      try await self.shelf.register(manifest.version)
      return manifest
    }
  }

  /// Says why the registry has not got the model yet.
  private func waits(
    _ tell: @escaping @Sendable (TrainingProgress) -> Void
  ) -> @Sendable (any Error) -> Void {
    { error in
      let text = (error as? RPCError)?.message ?? TrainingError.text(error)
      tell(TrainingProgress(state: .registering, error: "The registry did not get it yet: \(text)"))
    }
  }

  private func load(
    _ job: String, _ query: TrialQuery, _ network: NetworkConfiguration, _ control: JobControl
  ) async throws -> (samples: TrialSamples, snapshot: String, missing: UInt64) {
    // After a restart the same snapshot: a checkpoint belongs to its data.
    let snapshot: String
    if let known = self.store.snapshot(of: job) {
      snapshot = known
    } else {
      snapshot = try await self.peers.snapshot(of: query).snapshotID
      try self.store.saveSnapshot(snapshot, of: job)
    }
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
