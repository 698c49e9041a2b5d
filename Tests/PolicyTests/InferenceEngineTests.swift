import Policy
import Schemas
import Testing

@Suite struct InferenceEngineTests {
  func observation(task: String = "a") -> Observation {
    Observation(
      task: task, image: (0..<(32 * 32 * 3)).map { UInt8(truncatingIfNeeded: $0 &* 7) }, imageHeight: 32,
      imageWidth: 32, jointAngles: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
  }

  func engine() throws -> InferenceEngine {
    try InferenceEngine(
      PolicyNetwork(configuration: tinyConfiguration(), tasks: (0..<50).map { $0 == 0 ? "a" : "t\($0)" }),
      version: "v7")
  }

  @Test func observationsThatDoNotFitAreRefused() throws {
    let engine = try self.engine()
    #expect(throws: Never.self) { try engine.prepare(self.observation()) }
    let changes: [(inout Observation) -> Void] = [
      { $0.task = "t50" }, { $0.task = "" }, { $0.image.removeLast() }, { $0.imageHeight = 0 },
      { $0.imageHeight = .max }, { $0.jointAngles.append(0) }, { $0.jointAngles[2] = .nan },
      { $0.jointAngles[2] = -.infinity }, { $0.imageWidth = 31 },
    ]
    for change in changes {
      var bad = self.observation()
      change(&bad)
      #expect(code { _ = try engine.prepare(bad) } == .invalidInput)
    }
    do {
      _ = try engine.prepare(self.observation(task: "t50"))
    } catch {
      #expect(error.message.contains("50 tasks") && error.message.contains("t49"))
    }
  }

  @Test func manyThreadsGetTheSameAnswers() async throws {
    let engine = try self.engine()
    let prepared = try ["a", "t1", "t2", "t49"].map { try engine.prepare(self.observation(task: $0)) }
    let together = try engine.actions(for: prepared)
    #expect(Set(together).count == 4)
    #expect(together.allSatisfy { $0.count == 4 && $0.allSatisfy { (-1...1).contains($0) } })
    try await withThrowingTaskGroup(of: [[Float]].self) { group in
      for _ in 0..<16 { group.addTask { try prepared.map { try engine.actions(for: [$0])[0] } } }
      for try await alone in group {
        for (one, other) in zip(alone.joined(), together.joined()) { #expect(abs(one - other) < 1e-5) }
      }
    }
  }

  @Test func imagesShrinkByTheMeanOrBilinearly() throws {
    let image: [UInt8] = (0..<16).flatMap { [UInt8($0 * 10), 0, 255] }
    // Each 2 x 2 block of 0, 10 … 150 in rows of 4.
    let half = try ImageResizer.resize(image, height: 4, width: 4, to: 2)
    #expect(half == [25, 0, 255, 45, 0, 255, 105, 0, 255, 125, 0, 255])
    #expect(try ImageResizer.resize(image, height: 4, width: 4, to: 4) == image)
    // Half-pixel centres of 4 → 3: 1/6, 3/2, 17/6.
    let third = try ImageResizer.resize(image, height: 4, width: 4, to: 3)
    #expect(third[0] == 8)
    #expect(third[12] == 75)
    #expect(third[24] == 142)
    let flat = [UInt8](repeating: 77, count: 7 * 5 * 3)
    #expect(
      try ImageResizer.resize(flat, height: 7, width: 5, to: 16) == Array(repeating: 77, count: 16 * 16 * 3))
    #expect(code { _ = try ImageResizer.resize(flat, height: 5, width: 5, to: 2) } == .invalidInput)
  }

  @Test func defaultsAreTheDimensionsOfTheMission() throws {
    let configuration = try NetworkConfiguration()
    #expect(configuration.imageSize == 224 && configuration.visionFeatures == 256)
    #expect(configuration.joints == 7 && configuration.jointFeatures == 64)
    #expect(configuration.fusionFeatures == 256 && configuration.taskFeatures == 32)
    let network = try PolicyNetwork(configuration: configuration, tasks: (0..<50).map { "t\($0)" })
    #expect(network.shape(of: "head.weight") == [50, 288, 4])
    #expect(network.shape(of: "fusion.0.weight") == [256, 320])
    #expect(network.shape(of: "joints.weight") == [64, 7])
    #expect(network.shape(of: "task.embedding") == [50, 32])
    #expect(network.shape(of: "vision.weight")[0] == 256)
    #expect(try NetworkConfiguration(configuration.message) == configuration)
    let bad = [
      PolicyConfiguration(imageSize: 8), PolicyConfiguration(imageSize: 4000),
      PolicyConfiguration(actionChunk: 65),
      PolicyConfiguration(channels: [8]), PolicyConfiguration(channels: [8], strides: [0], kernels: [3]),
      PolicyConfiguration(channels: [8], strides: [1], kernels: [2]),
      PolicyConfiguration(channels: [64], strides: [1], kernels: [3]),
    ]
    for message in bad { #expect(code { _ = try NetworkConfiguration(message) } == .invalidConfiguration) }
    #expect(
      code { _ = try PolicyNetwork(configuration: configuration, tasks: ["a", "a"]) } == .invalidConfiguration
    )
    #expect(code { _ = try network.grow(tasks: ["t3"]) } == .invalidConfiguration)
  }
}
