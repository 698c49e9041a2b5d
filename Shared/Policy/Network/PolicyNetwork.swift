internal import CTorch

/// A multi-task policy whose weights can learn.
///
/// Not `Sendable`: one thread at a time owns it. Calls block; keep them off the cooperative pool.
public final class PolicyNetwork {
  public let configuration: NetworkConfiguration
  /// Task names in the order of the heads.
  public let tasks: [String]
  let handle: OpaquePointer

  /// Tensors that belong to tasks: their first dimension is the task.
  static let taskTensors = ["task.embedding", "head.weight", "head.bias"]

  /// New weights.
  /// - Throws: ``PolicyError`` `.invalidConfiguration`.
  public init(
    configuration: NetworkConfiguration, tasks: [String], seed: UInt64 = 0
  ) throws(PolicyError) {
    guard !tasks.isEmpty, Set(tasks).count == tasks.count, !tasks.contains("") else {
      throw PolicyError(
        .invalidConfiguration, "A policy needs one task at least, each with a name of its own.")
    }
    var shape = configuration.shape(tasks: tasks.count)
    var handle: OpaquePointer?
    try check(
      ct_network_create(&shape, seed, &handle), "Cannot make the network", code: .invalidConfiguration)
    self.configuration = configuration
    self.tasks = tasks
    self.handle = handle!
  }

  private init(configuration: NetworkConfiguration, tasks: [String], handle: OpaquePointer) {
    self.configuration = configuration
    self.tasks = tasks
    self.handle = handle
  }

  deinit { ct_network_destroy(self.handle) }

  /// A network with heads for more tasks. Everything that was learnt is the same, bit by bit.
  /// - Throws: ``PolicyError`` `.invalidConfiguration` for a task that is there already.
  public func grow(tasks added: [String], seed: UInt64 = 0) throws(PolicyError) -> PolicyNetwork {
    let tasks = self.tasks + added
    guard Set(tasks).count == tasks.count, !added.contains("") else {
      throw PolicyError(
        .invalidConfiguration,
        "Cannot add tasks \(added.joined(separator: ", ")): some are known already or have no name.")
    }
    var handle: OpaquePointer?
    try check(ct_network_grow(self.handle, Int32(tasks.count), seed, &handle), "Cannot add tasks")
    return PolicyNetwork(configuration: self.configuration, tasks: tasks, handle: handle!)
  }

  // MARK: Weights

  /// Number of weights that can learn.
  public var parameterCount: Int {
    self.tensorNames.filter { $0 != "joints.mean" && $0 != "joints.deviation" }
      .reduce(0) { $0 + self.shape(of: $1).reduce(1, *) }
  }

  public var tensorNames: [String] {
    (0..<ct_network_tensor_count(self.handle)).map {
      String(cString: ct_network_tensor_name(self.handle, $0))
    }
  }

  private func index(of name: String) -> Int32 { Int32(self.tensorNames.firstIndex(of: name)!) }

  /// The shape of a tensor of ``tensorNames``.
  public func shape(of name: String) -> [Int] {
    var sizes: [Int64] = [0, 0, 0, 0]
    let count = ct_network_tensor_shape(self.handle, self.index(of: name), &sizes)
    return sizes.prefix(Int(count)).map(Int.init)
  }

  /// A copy of a tensor of ``tensorNames``.
  public func tensor(_ name: String) throws(PolicyError) -> Safetensors.Tensor {
    let shape = self.shape(of: name)
    var values = [Float](repeating: 0, count: shape.reduce(1, *))
    let count = Int64(values.count)
    try check(ct_network_read(self.handle, self.index(of: name), &values, count), "Cannot read \(name)")
    return Safetensors.Tensor(shape: shape, values: values)
  }

  /// Replaces a tensor of ``tensorNames``.
  /// - Throws: ``PolicyError`` `.invalidWeights` for another shape or numbers that are not finite.
  public func set(_ name: String, to tensor: Safetensors.Tensor) throws(PolicyError) {
    let shape = self.shape(of: name)
    guard tensor.shape == shape else {
      throw PolicyError(
        .invalidWeights, "'\(name)' has the shape \(tensor.shape); this network needs \(shape).")
    }
    guard tensor.values.allSatisfy(\.isFinite) else {
      throw PolicyError(.invalidWeights, "'\(name)' holds numbers that are not finite.")
    }
    try check(
      ct_network_write(self.handle, self.index(of: name), tensor.values, Int64(tensor.values.count)),
      "Cannot write \(name)")
  }

  /// Mean and standard deviation of each joint angle, by which joints are normalised before they enter.
  /// - Throws: ``PolicyError`` `.invalidConfiguration` for a wrong count or a deviation that is not positive.
  public func setJointNormalisation(mean: [Float], deviation: [Float]) throws(PolicyError) {
    let joints = self.configuration.joints
    guard mean.count == joints, deviation.count == joints, deviation.allSatisfy({ $0 > 0 }) else {
      throw PolicyError(
        .invalidConfiguration, "Joint normalisation needs \(joints) means and \(joints) positive deviations.")
    }
    try self.set("joints.mean", to: .init(shape: [joints], values: mean))
    try self.set("joints.deviation", to: .init(shape: [joints], values: deviation))
  }

  // MARK: Use

  /// Actions for a batch, in [count x outputs], not clipped.
  /// - Throws: ``PolicyError`` `.invalidInput`.
  public func forward(_ batch: TrainingBatch) throws(PolicyError) -> [Float] {
    try batch.check(for: self.configuration, tasks: self.tasks.count, withTargets: false)
    var actions = [Float](repeating: 0, count: batch.count * self.configuration.outputs)
    let status = batch.withCBatch { c in ct_network_forward(self.handle, &c, &actions) }
    try Policy.check(status, "The forward pass failed")
    return actions
  }

  /// Weighted mean loss of a batch, without learning.
  public func loss(_ batch: TrainingBatch, _ loss: Loss) throws(PolicyError) -> Double {
    try batch.check(for: self.configuration, tasks: self.tasks.count, withTargets: true)
    var value = 0.0
    let status = batch.withCBatch { c in ct_network_loss(self.handle, &c, loss.c, &value) }
    try Policy.check(status, "The loss failed")
    return value
  }
}
