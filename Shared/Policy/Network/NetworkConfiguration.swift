internal import CTorch
public import Schemas

/// Every size of a network, spelt out and checked.
///
/// The defaults are the dimensions of the mission: image 3 x 224 x 224 → convolutions → 256; 7 joint angles → 64;
/// both → fusion → 256; with a task embedding of 32 → 288; one head a task → 4 action components.
public struct NetworkConfiguration: Sendable, Hashable {
  /// One convolution: ReLU(GroupNorm(conv)).
  public struct Convolution: Sendable, Hashable {
    public var channels: Int
    public var kernel: Int
    public var stride: Int
  }

  /// Pixels of the square image, 16 … 512.
  public let imageSize: Int
  public let joints: Int
  public let actionDimensions: Int
  /// Actions predicted at once; the first is for now.
  public let actionChunk: Int
  public let visionFeatures: Int
  public let jointFeatures: Int
  public let fusionFeatures: Int
  public let taskFeatures: Int
  public let convolutions: [Convolution]

  /// Numbers that a head gives: action dimensions x chunk.
  public var outputs: Int { self.actionDimensions * self.actionChunk }
  /// Bytes of an RGB image of the network's size.
  public var imageBytes: Int { self.imageSize * self.imageSize * 3 }

  /// Fills zeros with defaults.
  /// - Throws: ``PolicyError`` `.invalidConfiguration`, naming the field.
  public init(_ message: PolicyConfiguration = .init()) throws(PolicyError) {
    func value(
      _ given: UInt32, _ fallback: Int, _ name: String, _ range: ClosedRange<Int>
    ) throws(PolicyError) -> Int {
      let value = given == 0 ? fallback : Int(given)
      guard range.contains(value) else {
        throw PolicyError(
          .invalidConfiguration,
          "policy.\(name) is \(value); it must be \(range.lowerBound) to \(range.upperBound).")
      }
      return value
    }
    self.imageSize = try value(message.imageSize, 224, "image_size", 16...512)
    self.joints = try value(message.joints, 7, "joints", 1...64)
    self.actionDimensions = try value(message.actionDimensions, 4, "action_dimensions", 1...64)
    self.actionChunk = try value(message.actionChunk, 1, "action_chunk", 1...64)
    self.visionFeatures = try value(message.visionFeatures, 256, "vision_features", 1...4096)
    self.jointFeatures = try value(message.jointFeatures, 64, "joint_features", 1...4096)
    self.fusionFeatures = try value(message.fusionFeatures, 256, "fusion_features", 1...4096)
    self.taskFeatures = try value(message.taskFeatures, 32, "task_features", 1...4096)
    self.convolutions = try Self.convolutions(of: message, imageSize: self.imageSize)
  }

  /// The same as a message, nothing left to defaults.
  public var message: PolicyConfiguration {
    PolicyConfiguration(
      imageSize: UInt32(self.imageSize), joints: UInt32(self.joints),
      actionDimensions: UInt32(self.actionDimensions), actionChunk: UInt32(self.actionChunk),
      visionFeatures: UInt32(self.visionFeatures), jointFeatures: UInt32(self.jointFeatures),
      fusionFeatures: UInt32(self.fusionFeatures), taskFeatures: UInt32(self.taskFeatures),
      channels: self.convolutions.map { UInt32($0.channels) },
      strides: self.convolutions.map { UInt32($0.stride) },
      kernels: self.convolutions.map { UInt32($0.kernel) })
  }

  /// Without given ones: stride 4, then 2 until at most 8 x 8 positions are left. Those are flattened, not averaged:
  /// where something is matters more to a robot than whether it is there.
  private static func convolutions(
    of message: PolicyConfiguration, imageSize: Int
  ) throws(PolicyError) -> [Convolution] {
    var layers: [Convolution] = []
    if message.channels.isEmpty, message.strides.isEmpty, message.kernels.isEmpty {
      layers = [Convolution(channels: 32, kernel: 7, stride: 4)]
      while self.positions(imageSize, after: layers) > 8 {
        layers.append(Convolution(channels: 64, kernel: 3, stride: 2))
      }
      return layers
    }
    guard message.channels.count == message.strides.count, message.strides.count == message.kernels.count,
      (1...Int(CT_MAXIMUM_LAYERS)).contains(message.channels.count)
    else {
      throw PolicyError(
        .invalidConfiguration,
        "policy.channels, strides and kernels must have one number a convolution, 1 to \(CT_MAXIMUM_LAYERS) of them."
      )
    }
    for (channels, (stride, kernel)) in zip(message.channels, zip(message.strides, message.kernels)) {
      guard (1...1024).contains(channels), (1...8).contains(stride), (1...15).contains(kernel),
        kernel % 2 == 1
      else {
        throw PolicyError(
          .invalidConfiguration,
          "A convolution of \(channels) channels, stride \(stride) and kernel \(kernel) is out of bounds: 1 to "
            + "1024 channels, stride 1 to 8, odd kernel 1 to 15.")
      }
      layers.append(Convolution(channels: Int(channels), kernel: Int(kernel), stride: Int(stride)))
    }
    let side = self.positions(imageSize, after: layers)
    let flat = side * side * (layers.last?.channels ?? 0)
    guard flat <= 1 << 16 else {
      throw PolicyError(
        .invalidConfiguration,
        "The convolutions leave \(flat) numbers; at most \(1 << 16) are supported. Use larger strides.")
    }
    return layers
  }

  /// Pixels a side after the convolutions; each pads by half its kernel.
  private static func positions(_ size: Int, after layers: [Convolution]) -> Int {
    layers.reduce(size) { ($0 - 1) / $1.stride + 1 }
  }

  func shape(tasks: Int) -> ct_shape {
    var shape = ct_shape()
    shape.image_size = Int32(self.imageSize)
    shape.joints = Int32(self.joints)
    shape.tasks = Int32(tasks)
    shape.outputs = Int32(self.outputs)
    shape.vision_features = Int32(self.visionFeatures)
    shape.joint_features = Int32(self.jointFeatures)
    shape.fusion_features = Int32(self.fusionFeatures)
    shape.task_features = Int32(self.taskFeatures)
    shape.layers = Int32(self.convolutions.count)
    func put<Tuple>(_ values: [Int], _ tuple: inout Tuple) {
      withUnsafeMutableBytes(of: &tuple) { bytes in
        bytes.withMemoryRebound(to: Int32.self) { buffer in
          for (index, value) in values.enumerated() { buffer[index] = Int32(value) }
        }
      }
    }
    put(self.convolutions.map(\.channels), &shape.channels)
    put(self.convolutions.map(\.kernel), &shape.kernels)
    put(self.convolutions.map(\.stride), &shape.strides)
    return shape
  }
}
