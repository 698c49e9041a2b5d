internal import Foundation
public import Schemas

/// How a policy is trained, spelt out and checked. The defaults are those that `fleet loop` uses.
public struct TrainingOptions: Sendable, Hashable {
  public var optimizerSteps: Int
  public var batchSize: Int
  /// Highest learning rate: reached after the warm-up, then falls along a cosine.
  public var learningRate: Double
  public var weightDecay: Double
  public var warmupSteps: Int
  /// [0, 0.5].
  public var validationShare: Double
  /// Share of each batch from old tasks' trials, [0, 1).
  public var replayShare: Double
  public var freezeEncoder: Bool
  public var seed: UInt64
  /// Pixels of the network's image.
  public var shiftPixels: Int
  /// [0, 1].
  public var colorJitter: Double
  public var checkpointSteps: Int
  public var loss: Loss
  /// Seconds of optimisation at most; 0 for no bound.
  public var maximumSeconds: Double
  /// 0 for never.
  public var gradientClip: Double

  /// Fills zeros with defaults.
  /// - Throws: ``PolicyError`` `.invalidConfiguration`, naming the field.
  public init(_ message: TrainingConfiguration = .init(), imageSize: Int = 224) throws(PolicyError) {
    func demand(_ holds: Bool, _ message: @autoclosure () -> String) throws(PolicyError) {
      guard holds else { throw PolicyError(.invalidConfiguration, message()) }
    }
    self.optimizerSteps = message.optimizerSteps == 0 ? 4_000 : Int(message.optimizerSteps)
    self.batchSize = message.batchSize == 0 ? 64 : Int(message.batchSize)
    self.learningRate = message.learningRate == 0 ? 1e-3 : message.learningRate
    self.weightDecay = message.weightDecay == 0 ? 1e-4 : message.weightDecay
    self.warmupSteps = message.warmupSteps == 0 ? 100 : Int(message.warmupSteps)
    self.validationShare = message.validationShare == 0 ? 0.1 : message.validationShare
    self.replayShare = message.replayShare
    self.freezeEncoder = message.freezeEncoder
    self.seed = message.seed
    // 4 of 112 pixels: about what calibration and mounting of a camera vary by.
    self.shiftPixels = message.shiftPixels == 0 ? max(1, imageSize / 28) : max(0, Int(message.shiftPixels))
    self.colorJitter = message.colorJitter == 0 ? 0.2 : max(0, message.colorJitter)
    self.checkpointSteps = message.checkpointSteps == 0 ? 500 : Int(message.checkpointSteps)
    self.maximumSeconds = message.maxSeconds
    self.gradientClip = message.gradientClip == 0 ? 1 : max(0, message.gradientClip)
    guard let loss = message.loss.isEmpty ? Loss.mse : Loss(rawValue: message.loss) else {
      throw PolicyError(
        .invalidConfiguration,
        "training.loss is '\(message.loss.prefix(32))'; it must be one of "
          + Loss.allCases.map(\.rawValue).joined(separator: ", ") + ".")
    }
    self.loss = loss
    try demand(self.optimizerSteps <= 100_000_000, "training.optimizer_steps is too large.")
    try demand(
      self.batchSize <= 4_096, "training.batch_size is \(self.batchSize); at most 4096 are supported.")
    try demand(
      self.learningRate > 0 && self.learningRate <= 1,
      "training.learning_rate is \(self.learningRate); it must be above 0 and at most 1.")
    try demand(
      self.weightDecay >= 0 && self.weightDecay <= 1,
      "training.weight_decay is \(self.weightDecay); it must be 0 to 1.")
    try demand(
      (0...0.5).contains(self.validationShare),
      "training.validation_share is \(self.validationShare); it must be 0 to 0.5.")
    try demand(
      self.replayShare >= 0 && self.replayShare < 1,
      "training.replay_share is \(self.replayShare); it must be 0 or more and below 1.")
    try demand(
      self.shiftPixels <= imageSize / 2,
      "training.shift_pixels is \(self.shiftPixels); at most half of the image's \(imageSize) make sense.")
    try demand(self.colorJitter <= 1, "training.color_jitter is \(self.colorJitter); it must be at most 1.")
    try demand(
      self.maximumSeconds >= 0 && self.maximumSeconds.isFinite,
      "training.max_seconds is \(self.maximumSeconds); it must be 0 or more.")
    try demand(self.gradientClip.isFinite, "training.gradient_clip must be finite.")
  }

  /// Learning rate at a point of the training.
  ///
  /// Linear warm-up, then half a cosine down to 1 % (Loshchilov and Hutter 2017, without restarts).
  /// - Parameters:
  ///   - step: steps done.
  ///   - elapsed: seconds of optimisation done; with a bound on time, whichever bound is nearer counts.
  func rate(step: Int, elapsed: Double) -> Double {
    let progress = self.progress(step: step, elapsed: elapsed)
    let warmup = min(1, Double(step + 1) / Double(max(1, self.warmupSteps)))
    return self.learningRate * warmup * max(0.01, 0.5 * (1 + cos(.pi * progress)))
  }

  /// Share of the training that is done, [0, 1].
  func progress(step: Int, elapsed: Double) -> Double {
    let byTime = self.maximumSeconds > 0 ? elapsed / self.maximumSeconds : 0
    return min(1, max(byTime, Double(step) / Double(self.optimizerSteps)))
  }
}
