internal import Foundation
internal import Policy

/// Every sample that a job may learn from, images on disk and the rest in memory.
struct TrialSamples: Sendable {
  /// One trial's run of samples.
  struct Trial: Sendable {
    /// Robot and trial id: unique, and the same at every reading.
    var key: String
    var task: String
    var samples: Range<Int>
  }

  let images: SampleCache
  var trials: [Trial] = []
  /// joints a sample.
  var joints: [Float] = []
  /// action dimensions a sample.
  var actions: [Float] = []

  var tasks: Set<String> { Set(self.trials.map(\.task)) }

  /// Splits by trial, so that no step of a validation trial was trained on. The same trials and seed give the same split.
  /// - Parameter share: of each task's trials, rounded down; a task keeps one for validation from 5 trials on.
  func split(share: Double, seed: UInt64) -> (training: [Trial], validation: [Trial]) {
    var training: [Trial] = []
    var validation: [Trial] = []
    for (_, trials) in Dictionary(grouping: self.trials, by: \.task).sorted(by: { $0.key < $1.key }) {
      let ordered = trials.map { (Self.hash($0.key, seed: seed), $0) }.sorted {
        ($0.0, $0.1.key) < ($1.0, $1.1.key)
      }
      let few = share > 0 && trials.count >= 5 ? 1 : 0
      let count = max(few, Int(Double(trials.count) * share))
      validation += ordered.prefix(count).map(\.1)
      training += ordered.dropFirst(count).map(\.1)
    }
    return (training, validation)
  }

  /// FNV-1a (Fowler, Noll and Vo), the same in every process, unlike Swift's own hashes.
  private static func hash(_ text: String, seed: UInt64) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325 ^ seed) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
  }

  /// Mean and standard deviation of each joint angle. A joint that hardly moves gets a floor of 0.01 rad.
  func jointStatistics(of trials: [Trial], joints: Int) -> (mean: [Float], deviation: [Float]) {
    var sum = [Double](repeating: 0, count: joints)
    var squares = sum
    var count = 0.0
    for index in trials.lazy.flatMap(\.samples) {
      for joint in 0..<joints {
        let value = Double(self.joints[index * joints + joint])
        sum[joint] += value
        squares[joint] += value * value
      }
      count += 1
    }
    let mean = sum.map { $0 / max(1, count) }
    let deviation = zip(squares, mean).map { max(0.01, max(0, $0 / max(1, count) - $1 * $1).squareRoot()) }
    return (mean.map { Float($0) }, deviation.map { Float($0) })
  }
}

/// The samples as a network of certain tasks and chunk wants them.
struct TrialDataset: TrainingDataset {
  let samples: TrialSamples
  let network: NetworkConfiguration
  /// Of each sample: the head, and the end of its trial.
  private let heads: [Int64]
  private let ends: [Int]

  /// - Parameter tasks: names in the order of the heads; trials of other tasks must not be asked for.
  init(_ samples: TrialSamples, network: NetworkConfiguration, tasks: [String]) {
    let index = Dictionary(uniqueKeysWithValues: zip(tasks, Int64(0)...))
    var heads = [Int64](repeating: -1, count: samples.images.count)
    var ends = [Int](repeating: 0, count: samples.images.count)
    for trial in samples.trials {
      for sample in trial.samples {
        heads[sample] = index[trial.task] ?? -1
        ends[sample] = trial.samples.upperBound
      }
    }
    self.samples = samples
    self.network = network
    self.heads = heads
    self.ends = ends
  }

  var count: Int { self.heads.count }

  func read(_ indices: [Int], into batch: inout TrainingBatch) {
    let (imageBytes, joints, dimensions) = (
      self.network.imageBytes, self.network.joints, self.network.actionDimensions
    )
    batch.images.withUnsafeMutableBytes { images in
      for (row, index) in indices.enumerated() {
        images.baseAddress!.advanced(by: row * imageBytes)
          .copyMemory(from: self.samples.images.image(index).baseAddress!, byteCount: imageBytes)
      }
    }
    for (row, index) in indices.enumerated() {
      batch.tasks[row] = self.heads[index]
      batch.weights[row] = 1
      for joint in 0..<joints {
        batch.joints[row * joints + joint] = self.samples.joints[index * joints + joint]
      }
      for ahead in 0..<self.network.actionChunk {
        // After the trial's end the last action goes on.
        let source = min(index + ahead, self.ends[index] - 1) * dimensions
        let target = (row * self.network.actionChunk + ahead) * dimensions
        for dimension in 0..<dimensions {
          batch.targets[target + dimension] = self.samples.actions[source + dimension]
        }
      }
    }
  }
}
