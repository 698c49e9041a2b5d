internal import CTorch

/// Samples side by side: what was seen, and what should have been done.
public struct TrainingBatch: Sendable {
  public var count: Int
  /// count x size x size x 3 bytes, RGB, top row first, at the network's image size.
  public var images: [UInt8]
  /// count x joints, radians.
  public var joints: [Float]
  /// Index of the head, count.
  public var tasks: [Int64]
  /// count x chunk x action dimensions; empty where there is no target.
  public var targets: [Float]
  /// How much each sample counts, count; empty for 1 each.
  public var weights: [Float]

  public init(
    count: Int = 0, images: [UInt8] = [], joints: [Float] = [], tasks: [Int64] = [], targets: [Float] = [],
    weights: [Float] = []
  ) {
    self.count = count
    self.images = images
    self.joints = joints
    self.tasks = tasks
    self.targets = targets
    self.weights = weights
  }

  /// - Throws: ``PolicyError`` `.invalidInput`, naming what does not fit.
  func check(for network: NetworkConfiguration, tasks: Int, withTargets: Bool) throws(PolicyError) {
    func demand(_ holds: Bool, _ message: @autoclosure () -> String) throws(PolicyError) {
      guard holds else { throw PolicyError(.invalidInput, message()) }
    }
    try demand(
      (1...65_536).contains(self.count), "A batch has \(self.count) samples; 1 to 65536 are possible.")
    try demand(
      self.images.count == self.count * network.imageBytes,
      "A batch has \(self.images.count) bytes of images; \(self.count) of \(network.imageSize) x "
        + "\(network.imageSize) x 3 need \(self.count * network.imageBytes).")
    try demand(
      self.joints.count == self.count * network.joints,
      "A batch has \(self.joints.count) joint angles; \(self.count) x \(network.joints) are needed.")
    try demand(self.joints.allSatisfy(\.isFinite), "A joint angle is not finite.")
    try demand(
      self.tasks.count == self.count, "A batch has \(self.tasks.count) tasks for \(self.count) samples.")
    try demand(
      self.tasks.allSatisfy { $0 >= 0 && $0 < tasks },
      "A task is not in 0 ..< \(tasks): \(self.tasks.first { $0 < 0 || $0 >= tasks } ?? 0).")
    guard withTargets else { return }
    try demand(
      self.targets.count == self.count * network.outputs,
      "A batch has \(self.targets.count) target numbers; \(self.count) x \(network.outputs) are needed.")
    try demand(self.targets.allSatisfy(\.isFinite), "A target action is not finite.")
    try demand(
      self.weights.isEmpty
        || (self.weights.count == self.count && self.weights.allSatisfy { $0 >= 0 && $0.isFinite }
          && self.weights.contains { $0 > 0 }),
      "Weights of a batch must be finite, not negative, one a sample, and one above zero.")
  }

  /// Hands the arrays to C for the time of the call.
  func withCBatch<Result>(_ body: (inout ct_batch) -> Result) -> Result {
    self.images.withUnsafeBufferPointer { images in
      self.joints.withUnsafeBufferPointer { joints in
        self.tasks.withUnsafeBufferPointer { tasks in
          self.targets.withUnsafeBufferPointer { targets in
            self.weights.withUnsafeBufferPointer { weights in
              var batch = ct_batch(
                count: Int32(self.count), images: images.baseAddress!, joints: joints.baseAddress!,
                tasks: tasks.baseAddress!, targets: self.targets.isEmpty ? nil : targets.baseAddress,
                weights: self.weights.isEmpty ? nil : weights.baseAddress)
              return body(&batch)
            }
          }
        }
      }
    }
  }
}

/// Distance between an action and its target; the mean over its components counts.
public enum Loss: String, Sendable, CaseIterable {
  case mse
  case l1
  /// Quadratic below 0.1, linear above.
  case smoothL1 = "smooth_l1"

  var c: ct_loss {
    switch self {
    case .mse: CT_LOSS_MSE
    case .l1: CT_LOSS_L1
    case .smoothL1: CT_LOSS_SMOOTH_L1
    }
  }
}
