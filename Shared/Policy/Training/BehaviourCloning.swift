internal import CTorch
internal import Foundation

/// Behaviour cloning: makes a network's actions those of the demonstrations, by AdamW.
///
/// Not `Sendable`, and every call blocks: give it a thread of its own.
public final class BehaviourCloning {
  public let network: PolicyNetwork
  public let options: TrainingOptions
  /// Tasks below this index, and the trunk, do not learn; nil: everything learns.
  public let firstLearningTask: Int?
  /// Steps done.
  public private(set) var step = 0
  /// Seconds of optimisation done, those before a restart included.
  public private(set) var elapsed = 0.0
  /// Moving average of the loss; nil before the first step.
  public private(set) var trainLoss: Double?
  private let handle: OpaquePointer

  /// - Parameters:
  ///   - firstLearningTask: with ``TrainingOptions/freezeEncoder``, the first task whose head and embedding learn.
  /// - Throws: ``PolicyError``.
  public init(
    network: PolicyNetwork, options: TrainingOptions, firstLearningTask: Int? = nil
  ) throws(PolicyError) {
    var c = ct_trainer_options(
      loss: options.loss.c, weight_decay: options.weightDecay, gradient_clip: options.gradientClip,
      first_task: Int32(firstLearningTask ?? -1))
    var handle: OpaquePointer?
    try check(
      ct_trainer_create(network.handle, &c, &handle), "Cannot start training", code: .invalidConfiguration)
    self.network = network
    self.options = options
    self.firstLearningTask = firstLearningTask
    self.handle = handle!
  }

  deinit { ct_trainer_destroy(self.handle) }

  /// True once the bound on steps or on time is reached.
  public var isFinished: Bool { self.options.progress(step: self.step, elapsed: self.elapsed) >= 1 }

  /// Seconds until the end at the present speed.
  public var remainingSeconds: Double {
    let progress = self.options.progress(step: self.step, elapsed: self.elapsed)
    return progress > 0 ? self.elapsed * (1 - progress) / progress : 0
  }

  public var samplesPerSecond: Double {
    self.elapsed > 0 ? Double(self.step * self.options.batchSize) / self.elapsed : 0
  }

  /// Learns from the samples that the sampler chooses for the next step.
  /// - Returns: the loss before the step.
  /// - Throws: ``PolicyError`` `.diverged`, `.invalidInput`, or what the dataset throws.
  @discardableResult
  public func step(
    _ dataset: some TrainingDataset, sampler: StratifiedSampler, batch: inout TrainingBatch
  ) throws -> Double {
    let begin = ContinuousClock.now
    self.size(&batch, self.options.batchSize)
    try dataset.read(sampler.indices(step: self.step, count: self.options.batchSize), into: &batch)
    let loss = try self.step(batch)
    self.elapsed += begin.duration(to: .now) / .seconds(1)
    return loss
  }

  /// Learns from one batch.
  @discardableResult
  public func step(_ batch: TrainingBatch) throws(PolicyError) -> Double {
    let configuration = self.network.configuration
    try batch.check(for: configuration, tasks: self.network.tasks.count, withTargets: true)
    var random = SplitMix64(seed: self.options.seed ^ 0xA06A_E47A, stream: UInt64(self.step))
    var augmentation = ct_augmentation(
      seed: random.next(), shift: Int32(self.options.shiftPixels), jitter: Float(self.options.colorJitter))
    let rate = self.options.rate(step: self.step, elapsed: self.elapsed)
    var loss = 0.0
    var norm = 0.0
    let status = batch.withCBatch { c in
      ct_trainer_step(self.handle, &c, &augmentation, rate, &loss, &norm)
    }
    try check(status, "Step \(self.step + 1) of training failed", code: .diverged)
    self.step += 1
    self.trainLoss = self.trainLoss.map { $0 + 0.02 * (loss - $0) } ?? loss
    return loss
  }

  /// Mean loss over samples that training does not see.
  public func validate(_ dataset: some TrainingDataset, samples: [Int]) throws -> Double {
    var sum = 0.0
    var batch = TrainingBatch()
    for start in stride(from: 0, to: samples.count, by: 256) {
      let indices = Array(samples[start..<min(samples.count, start + 256)])
      self.size(&batch, indices.count)
      try dataset.read(indices, into: &batch)
      sum += try self.network.loss(batch, self.options.loss) * Double(indices.count)
    }
    return samples.isEmpty ? .nan : sum / Double(samples.count)
  }

  private func size(_ batch: inout TrainingBatch, _ count: Int) {
    guard batch.count != count else { return }
    let configuration = self.network.configuration
    batch = TrainingBatch(
      count: count, images: Array(repeating: 0, count: count * configuration.imageBytes),
      joints: Array(repeating: 0, count: count * configuration.joints),
      tasks: Array(repeating: 0, count: count),
      targets: Array(repeating: 0, count: count * configuration.outputs),
      weights: Array(repeating: 1, count: count))
  }

  // MARK: Checkpoints

  /// The network and the optimiser as one file's bytes.
  public func checkpoint() throws(PolicyError) -> [UInt8] {
    var file = Safetensors(metadata: [
      "step": String(self.step), "elapsed": String(self.elapsed), "tasks": String(self.network.tasks.count),
      "train_loss": self.trainLoss.map { String($0) } ?? "",
    ])
    for name in self.network.tensorNames { file.tensors[name] = try self.network.tensor(name) }
    let count = ct_trainer_state_count(self.handle)
    var state = [Float](repeating: 0, count: Int(count))
    try check(ct_trainer_read_state(self.handle, &state, count), "Cannot read the optimiser")
    file.tensors["optimizer.state"] = .init(shape: [state.count], values: state)
    return try file.bytes()
  }

  /// Goes back to a checkpoint of a training with the same network and options.
  /// - Throws: ``PolicyError`` `.invalidWeights`; the network is then of no more use.
  public func restore(_ bytes: [UInt8]) throws(PolicyError) {
    let file = try Safetensors(bytes: bytes, name: "the checkpoint")
    guard let step = file.metadata["step"].flatMap({ Int($0) }), step >= 0,
      let elapsed = file.metadata["elapsed"].flatMap({ Double($0) }), elapsed >= 0,
      let state = file.tensors["optimizer.state"]
    else { throw PolicyError(.invalidWeights, "The checkpoint lacks its step or the optimiser's state.") }
    for name in self.network.tensorNames {
      guard let tensor = file.tensors[name] else {
        throw PolicyError(.invalidWeights, "The checkpoint has no tensor '\(name)'.")
      }
      try self.network.set(name, to: tensor)
    }
    try check(
      ct_trainer_write_state(self.handle, state.values, Int64(state.values.count)),
      "The checkpoint belongs to another training", code: .invalidWeights)
    self.step = step
    self.elapsed = elapsed
    self.trainLoss = file.metadata["train_loss"].flatMap { Double($0) }
  }
}
