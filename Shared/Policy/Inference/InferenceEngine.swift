internal import CTorch
public import Schemas

/// A model that only answers. Any number of threads may call it at once.
///
/// Calls block for some milliseconds: keep them off the cooperative pool.
// Sendable is unchecked because of the raw handle: the engine behind it is never changed after it was made, and LibTorch
// allows concurrent reads.
public final class InferenceEngine: @unchecked Sendable {
  public let version: String
  public let configuration: NetworkConfiguration
  /// Task names in the order of the heads.
  public let tasks: [String]
  private let indices: [String: Int64]
  private let handle: OpaquePointer

  /// An observation that has been checked and resized.
  public struct PreparedObservation: Sendable {
    let image: [UInt8]
    let joints: [Float]
    let task: Int64
  }

  /// - Throws: ``PolicyError``.
  public init(_ network: PolicyNetwork, version: String = "") throws(PolicyError) {
    var handle: OpaquePointer?
    try check(ct_engine_create(network.handle, &handle), "Cannot make an inference engine")
    self.version = version
    self.configuration = network.configuration
    self.tasks = network.tasks
    self.indices = Dictionary(uniqueKeysWithValues: zip(network.tasks, Int64(0)...))
    self.handle = handle!
  }

  /// A model from its verified manifest and files.
  /// - Throws: ``PolicyError`` `.invalidWeights`, `.invalidConfiguration`.
  public convenience init(manifest: ModelManifest, files: [String: [UInt8]]) throws(PolicyError) {
    let configuration = try NetworkConfiguration(manifest.policy ?? .init())
    let network = try PolicyNetwork(configuration: configuration, tasks: manifest.tasks, files: files)
    try self.init(network, version: manifest.version)
  }

  deinit { ct_engine_destroy(self.handle) }

  /// Checks an observation without working on it.
  /// - Returns: the number of its task's head.
  /// - Throws: ``PolicyError`` `.invalidInput` that says what is wrong with it.
  @discardableResult
  public func requireValid(_ observation: Observation) throws(PolicyError) -> Int64 {
    guard let task = self.indices[observation.task] else {
      throw PolicyError(
        .invalidInput,
        "Task '\(observation.task.prefix(64))' is none of the \(self.tasks.count) tasks of model "
          + "\(self.version): \(self.tasks.joined(separator: ", ")).")
    }
    guard observation.jointAngles.count == self.configuration.joints else {
      throw PolicyError(
        .invalidInput,
        "An observation has \(observation.jointAngles.count) joint angles; model \(self.version) takes "
          + "\(self.configuration.joints).")
    }
    guard observation.jointAngles.allSatisfy({ $0.isFinite && abs($0) < 1e4 }) else {
      throw PolicyError(.invalidInput, "A joint angle is not a finite number of radians.")
    }
    try ImageResizer.check(
      bytes: observation.image.count, height: Int(observation.imageHeight), width: Int(observation.imageWidth)
    )
    return task
  }

  /// Checks an observation and brings its image to the network's size.
  /// - Throws: ``PolicyError`` `.invalidInput` that says what is wrong with it.
  public func prepare(_ observation: Observation) throws(PolicyError) -> PreparedObservation {
    let task = try self.requireValid(observation)
    let image = try ImageResizer.resize(
      observation.image, height: Int(observation.imageHeight), width: Int(observation.imageWidth),
      to: self.configuration.imageSize)
    return PreparedObservation(image: image, joints: observation.jointAngles, task: task)
  }

  /// Actions for several observations at once.
  /// - Returns: for each, chunk x action dimensions, first action first, each in [-1, 1].
  /// - Throws: ``PolicyError`` `.torch` where the network gives no finite numbers.
  public func actions(for observations: [PreparedObservation]) throws(PolicyError) -> [[Float]] {
    guard !observations.isEmpty else { return [] }
    var batch = TrainingBatch(count: observations.count)
    batch.images.reserveCapacity(observations.count * self.configuration.imageBytes)
    for observation in observations {
      batch.images += observation.image
      batch.joints += observation.joints
      batch.tasks.append(observation.task)
    }
    let outputs = self.configuration.outputs
    var actions = [Float](repeating: 0, count: batch.count * outputs)
    let status = batch.withCBatch { c in ct_engine_run(self.handle, &c, &actions) }
    try check(status, "Model \(self.version) failed")
    guard actions.allSatisfy(\.isFinite) else {
      throw PolicyError(.torch, "Model \(self.version) gave an action that is not finite.")
    }
    return (0..<batch.count).map { index in
      actions[(index * outputs)..<((index + 1) * outputs)].map { min(1, max(-1, $0)) }
    }
  }
}
