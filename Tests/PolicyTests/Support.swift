import Foundation
import Policy
import Schemas

/// Random samples whose targets depend on what the samples show, kept whole in memory.
struct RandomDataset: TrainingDataset {
  let configuration: NetworkConfiguration
  let count: Int
  let samples: TrainingBatch

  init(_ configuration: NetworkConfiguration, count: Int, tasks: Range<Int>, seed: UInt64) {
    var random = SplitMix64(seed: seed)
    self.configuration = configuration
    self.count = count
    var batch = TrainingBatch(count: count)
    batch.images = (0..<(count * configuration.imageBytes)).map { _ in
      UInt8.random(in: 0...255, using: &random)
    }
    batch.joints = (0..<(count * configuration.joints)).map { _ in Float.random(in: -1...1, using: &random) }
    batch.tasks = (0..<count).map { Int64(tasks.lowerBound + $0 % tasks.count) }
    batch.targets = (0..<(count * configuration.outputs)).map { _ in Float.random(in: -1...1, using: &random)
    }
    batch.weights = Array(repeating: 1, count: count)
    self.samples = batch
  }

  func read(_ indices: [Int], into batch: inout TrainingBatch) {
    let (image, joints, outputs) = (
      self.configuration.imageBytes, self.configuration.joints, self.configuration.outputs
    )
    for (row, index) in indices.enumerated() {
      batch.images.replaceSubrange(
        (row * image)..<((row + 1) * image),
        with: self.samples.images[(index * image)..<((index + 1) * image)])
      batch.joints.replaceSubrange(
        (row * joints)..<((row + 1) * joints),
        with: self.samples.joints[(index * joints)..<((index + 1) * joints)])
      batch.targets.replaceSubrange(
        (row * outputs)..<((row + 1) * outputs),
        with: self.samples.targets[(index * outputs)..<((index + 1) * outputs)])
      batch.tasks[row] = self.samples.tasks[index]
      batch.weights[row] = self.samples.weights[index]
    }
  }
}

/// A network small enough for many steps in a debug build.
func tinyConfiguration(chunk: UInt32 = 1) throws -> NetworkConfiguration {
  try NetworkConfiguration(
    PolicyConfiguration(
      imageSize: 16, actionChunk: chunk, visionFeatures: 32, jointFeatures: 16, fusionFeatures: 32,
      taskFeatures: 8, channels: [8], strides: [4], kernels: [5]))
}

func code(_ body: () throws -> Void) -> PolicyError.Code? {
  do { try body() } catch { return (error as? PolicyError)?.code }
  return nil
}
