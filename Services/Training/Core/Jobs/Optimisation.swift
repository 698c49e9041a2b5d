internal import Policy
internal import Schemas

/// The optimisation of one job: from data and parent to weights. Blocks; give it a thread of its own.
struct Optimisation: Sendable {
  /// Seconds between words about progress, and at most between checkpoints.
  static let progressInterval = 0.5
  static let checkpointInterval = 20.0
  /// Samples of a validation on the way; the last one takes all.
  static let validationSamples = 512

  struct Result: Sendable {
    var files: [(name: String, bytes: [UInt8])]
    var tasks: [String]
    var parameters: Int
    var steps: Int
    var seconds: Double
    var samplesPerSecond: Double
    var trainLoss: Double
    var validationLoss: Double
    var jointMean: [Float]
    var jointDeviation: [Float]
  }

  var network: NetworkConfiguration
  var options: TrainingOptions
  var plan: JobPlan
  var parent: (tasks: [String], files: [String: [UInt8]])?
  var samples: TrialSamples
  /// Threads within one operation.
  var threads: Int
  var control: JobControl
  var loadCheckpoint: @Sendable () throws -> [UInt8]?
  var saveCheckpoint: @Sendable ([UInt8]) throws -> Void
  var tell: @Sendable (TrainingProgress) -> Void
  /// Something that an operator may want to know.
  var warn: @Sendable (String) -> Void

  /// - Throws: what ``loadCheckpoint`` does where the disk may give the checkpoint later; why nothing can be learned.
  func run() throws -> Result {
    Torch.useThreads(self.threads)
    let (training, validation) = self.samples.split(
      share: self.options.validationShare, seed: self.options.seed)
    let dataset = TrialDataset(self.samples, network: self.network, tasks: self.plan.tasks)
    let learner = try self.start(training)
    let sampler = try StratifiedSampler(
      self.plan.shares.sorted { $0.key < $1.key }.map { task, share in
        .init(samples: training.filter { $0.task == task }.flatMap(\.samples), share: share)
      }, seed: self.options.seed)
    let unseen = validation.filter { self.plan.shares[$0.task] != nil }.flatMap(\.samples)
    let some = Self.spread(unseen, Self.validationSamples)
    var validationLoss = Double.nan
    var batch = TrainingBatch()
    var told = ContinuousClock.now
    var saved = (step: learner.step, elapsed: learner.elapsed)
    let validateEvery = max(100, self.options.optimizerSteps / 10)
    while !learner.isFinished {
      do {
        try self.control.check()
      } catch let error as TrainingError where error.code == .interrupted {
        try self.save(learner)
        throw error
      }
      try learner.step(dataset, sampler: sampler, batch: &batch)
      if learner.step % validateEvery == 0, !some.isEmpty {
        validationLoss = try learner.validate(dataset, samples: some)
      }
      if learner.step - saved.step >= self.options.checkpointSteps
        || learner.elapsed - saved.elapsed >= Self.checkpointInterval
      {
        try self.save(learner)
        saved = (learner.step, learner.elapsed)
      }
      if told.duration(to: .now) / .seconds(1) >= Self.progressInterval {
        self.tell(self.progress(of: learner, validationLoss))
        told = .now
      }
    }
    validationLoss = try learner.validate(dataset, samples: unseen)
    self.tell(self.progress(of: learner, validationLoss))
    return try self.result(of: learner, validationLoss)
  }

  /// The network before the next step: new, the parent's, or a checkpoint's.
  private func start(_ training: [TrialSamples.Trial]) throws -> BehaviourCloning {
    func fresh() throws -> BehaviourCloning {
      let network: PolicyNetwork
      if let parent = self.parent {
        let old = try PolicyNetwork(configuration: self.network, tasks: parent.tasks, files: parent.files)
        network = try old.grow(tasks: self.plan.newTasks, seed: self.options.seed &+ 1)
      } else {
        network = try PolicyNetwork(
          configuration: self.network, tasks: self.plan.tasks, seed: self.options.seed)
        let (mean, deviation) = self.samples.jointStatistics(of: training, joints: self.network.joints)
        try network.setJointNormalisation(mean: mean, deviation: deviation)
      }
      return try BehaviourCloning(
        network: network, options: self.options, firstLearningTask: self.plan.firstLearningTask)
    }
    let learner = try fresh()
    do {
      guard let checkpoint = try self.loadCheckpoint() else { return learner }
      try learner.restore(checkpoint)
      return learner
    } catch let error where !JobControl.mayPass(error) {
      // A checkpoint that is no good costs time, not the job.
      self.warn("starting over: \(error)")
      return try fresh()
    }
  }

  /// A checkpoint that a disk does not take costs time where the process ends before the next, not the job.
  private func save(_ learner: BehaviourCloning) throws {
    let checkpoint = try learner.checkpoint()
    do { try self.saveCheckpoint(checkpoint) } catch { self.warn("cannot keep a checkpoint: \(error)") }
  }

  private func progress(of learner: BehaviourCloning, _ validationLoss: Double) -> TrainingProgress {
    TrainingProgress(
      state: .running, step: UInt64(learner.step), totalSteps: UInt64(self.options.optimizerSteps),
      trainLoss: learner.trainLoss ?? .nan, validationLoss: validationLoss,
      samplesPerSecond: learner.samplesPerSecond, elapsedSeconds: learner.elapsed,
      remainingSeconds: learner.remainingSeconds)
  }

  private func result(of learner: BehaviourCloning, _ validationLoss: Double) throws -> Result {
    Result(
      files: try learner.network.files(), tasks: learner.network.tasks,
      parameters: learner.network.parameterCount, steps: learner.step, seconds: learner.elapsed,
      samplesPerSecond: learner.samplesPerSecond, trainLoss: learner.trainLoss ?? .nan,
      validationLoss: validationLoss, jointMean: try learner.network.tensor("joints.mean").values,
      jointDeviation: try learner.network.tensor("joints.deviation").values)
  }

  /// At most `count` of the samples, evenly spaced.
  private static func spread(_ samples: [Int], _ count: Int) -> [Int] {
    guard samples.count > count else { return samples }
    return (0..<count).map { samples[$0 * samples.count / count] }
  }
}
