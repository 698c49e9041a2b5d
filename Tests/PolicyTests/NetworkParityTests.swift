import Foundation
import Policy
import Schemas
import TestSupport
import Testing

/// The same files and inputs give the same actions in PyTorch.
@Suite struct NetworkParityTests {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path(percentEncoded: false)

  /// Actions of `Tests/Interop/policy_peer.py` for what lies in a folder.
  func peer(_ folder: String) throws -> [Double] {
    let python = ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"] ?? "\(Self.root)/.python/bin/python"
    try #require(
      FileManager.default.isExecutableFile(atPath: python), "There is no \(python); run deploy/setup first.")
    let process = Process()
    process.executableURL = URL(filePath: python)
    process.arguments = ["\(Self.root)/Tests/Interop/policy_peer.py", folder]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    return try JSONDecoder().decode([Double].self, from: output)
  }

  static func observation(_ index: Int, of batch: TrainingBatch, _ network: NetworkConfiguration)
    -> Observation
  {
    let size = UInt32(network.imageSize)
    let image = batch.images[(index * network.imageBytes)...].prefix(network.imageBytes)
    let joints = batch.joints[(index * 7)...].prefix(7)
    return Observation(
      task: ["a", "b", "c"][index % 3], image: Array(image), imageHeight: size, imageWidth: size,
      jointAngles: Array(joints))
  }

  @Test(arguments: [
    PolicyConfiguration(), PolicyConfiguration(imageSize: 112, actionChunk: 3),
    PolicyConfiguration(imageSize: 50, channels: [12, 20], strides: [3, 2], kernels: [5, 3]),
  ])
  func actionsEqualThoseOfPyTorch(message: PolicyConfiguration) throws {
    let configuration = try NetworkConfiguration(message)
    let network = try PolicyNetwork(configuration: configuration, tasks: ["a", "b", "c"], seed: 5)
    try network.setJointNormalisation(
      mean: (0..<7).map { 0.1 * Float($0) }, deviation: (0..<7).map { 0.5 + 0.1 * Float($0) })
    let data = RandomDataset(configuration, count: 6, tasks: 0..<3, seed: 9)
    // A step of training first: fresh biases of heads and scales of normalisation are all alike.
    let training = try BehaviourCloning(
      network: network, options: TrainingOptions(imageSize: configuration.imageSize))
    try training.step(data.samples)

    let folder = try TemporaryFolder()
    func write(_ name: String, _ data: Data) throws {
      try data.write(to: URL(filePath: "\(folder.path)/\(name)"))
    }
    for (name, bytes) in try network.files() { try write(name, Data(bytes)) }
    let layers: [[String: Int]] = configuration.convolutions.map { layer in
      ["channels": layer.channels, "kernel": layer.kernel, "stride": layer.stride]
    }
    let config: [String: Any] = [
      "image": configuration.imageSize, "tasks": 3, "vision": 256, "joints": 64, "head": 288,
      "convolutions": layers,
    ]
    try write("config.json", JSONSerialization.data(withJSONObject: config))
    try write("images.bin", Data(data.samples.images))
    try write("joints.bin", data.samples.joints.withUnsafeBytes { Data($0) })
    try write("tasks.bin", data.samples.tasks.withUnsafeBytes { Data($0) })

    let theirs = try self.peer(folder.path)
    let ours = try network.forward(data.samples)
    #expect(theirs.count == ours.count)
    #expect(zip(ours, theirs).allSatisfy { abs(Double($0) - $1) < 1e-4 })
    #expect(Set(ours).count > ours.count / 2)

    // The engine that serves gives the same, from the same files.
    let files = Dictionary(uniqueKeysWithValues: try network.files().map { ($0.name, $0.bytes) })
    let manifest = ModelManifest(version: "v1", policy: configuration.message, tasks: ["a", "b", "c"])
    let engine = try InferenceEngine(manifest: manifest, files: files)
    let prepared = try (0..<6).map { (index: Int) throws -> InferenceEngine.PreparedObservation in
      try engine.prepare(Self.observation(index, of: data.samples, configuration))
    }
    let served = try engine.actions(for: prepared).flatMap { $0 }
    #expect(zip(served, theirs).allSatisfy { abs(Double($0) - min(1, max(-1, $1))) < 1e-4 })
  }
}
