/// A network as files: the trunk in one, each task's head in one of its own, so that versions share what they have in
/// common.
extension PolicyNetwork {
  public static let trunkFile = "trunk.safetensors"

  public static func headFile(_ index: Int) -> String { "head-\(index).safetensors" }

  /// Files by name, in the order of a manifest.
  public func files() throws(PolicyError) -> [(name: String, bytes: [UInt8])] {
    var trunk = Safetensors()
    for name in self.tensorNames where !Self.taskTensors.contains(name) {
      trunk.tensors[name] = try self.tensor(name)
    }
    var files = [(name: Self.trunkFile, bytes: try trunk.bytes())]
    var rows: [String: Safetensors.Tensor] = [:]
    for name in Self.taskTensors { rows[name] = try self.tensor(name) }
    for (index, task) in self.tasks.enumerated() {
      var head = Safetensors(metadata: ["task": task])
      for (name, tensor) in rows {
        let shape = Array(tensor.shape.dropFirst())
        let count = shape.reduce(1, *)
        head.tensors[name] = .init(
          shape: shape, values: Array(tensor.values[(index * count)..<((index + 1) * count)]))
      }
      files.append((Self.headFile(index), try head.bytes()))
    }
    return files
  }

  /// A network from its files.
  /// - Throws: ``PolicyError`` `.invalidWeights` for a file that is missing, damaged or of another network.
  public convenience init(
    configuration: NetworkConfiguration, tasks: [String], files: [String: [UInt8]]
  ) throws(PolicyError) {
    try self.init(configuration: configuration, tasks: tasks)
    let trunk = try Self.read(Self.trunkFile, of: files)
    for name in self.tensorNames where !Self.taskTensors.contains(name) {
      guard let tensor = trunk.tensors[name] else { throw Self.lacks(name, Self.trunkFile) }
      try self.set(name, to: tensor)
    }
    guard try self.tensor("joints.deviation").values.allSatisfy({ $0 > 0 }) else {
      throw PolicyError(.invalidWeights, "'joints.deviation' in \(Self.trunkFile) is not positive.")
    }
    var rows = Self.taskTensors.map { Safetensors.Tensor(shape: self.shape(of: $0), values: []) }
    for (index, task) in tasks.enumerated() {
      let file = Self.headFile(index)
      let head = try Self.read(file, of: files)
      guard head.metadata["task"] == task else {
        throw PolicyError(
          .invalidWeights, "\(file) is the head of task '\(head.metadata["task"] ?? "")', not of '\(task)'.")
      }
      for (position, name) in Self.taskTensors.enumerated() {
        guard let tensor = head.tensors[name] else { throw Self.lacks(name, file) }
        guard tensor.shape == Array(rows[position].shape.dropFirst()) else {
          throw PolicyError(
            .invalidWeights,
            "'\(name)' in \(file) has the shape \(tensor.shape); this network needs "
              + "\(Array(rows[position].shape.dropFirst())).")
        }
        rows[position].values += tensor.values
      }
    }
    for (name, tensor) in zip(Self.taskTensors, rows) { try self.set(name, to: tensor) }
  }

  private static func read(_ name: String, of files: [String: [UInt8]]) throws(PolicyError) -> Safetensors {
    guard let bytes = files[name] else {
      throw PolicyError(.invalidWeights, "The model has no file \(name).")
    }
    return try Safetensors(bytes: bytes, name: name)
  }

  private static func lacks(_ tensor: String, _ file: String) -> PolicyError {
    PolicyError(.invalidWeights, "\(file) has no tensor '\(tensor)'; it belongs to another kind of network.")
  }
}
