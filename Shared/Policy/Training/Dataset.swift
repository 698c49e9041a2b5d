/// Samples that can be read in any order.
public protocol TrainingDataset {
  /// Number of samples.
  var count: Int { get }

  /// Puts samples into a batch whose arrays have the right sizes already.
  func read(_ indices: [Int], into batch: inout TrainingBatch) throws
}

/// Chooses the samples of each step: first a stratum by its share, then a sample of it, each equally likely.
///
/// A step's choice depends only on the seed and the step, so that training goes on after a kill as if nothing happened.
public struct StratifiedSampler: Sendable {
  public struct Stratum: Sendable {
    public var samples: [Int]
    /// Relative share of the batch; need not sum to 1.
    public var share: Double

    public init(samples: [Int], share: Double) {
      self.samples = samples
      self.share = share
    }
  }

  private let strata: [Stratum]
  private let total: Double
  private let seed: UInt64

  /// - Throws: ``PolicyError`` `.invalidConfiguration` where no stratum has samples.
  public init(_ strata: [Stratum], seed: UInt64) throws(PolicyError) {
    self.strata = strata.filter { !$0.samples.isEmpty && $0.share > 0 }
    self.total = self.strata.reduce(0) { $0 + $1.share }
    self.seed = seed
    guard self.total > 0 else {
      throw PolicyError(.invalidConfiguration, "There is no sample to train on.")
    }
  }

  public func indices(step: Int, count: Int) -> [Int] {
    var random = SplitMix64(seed: self.seed, stream: UInt64(step))
    return (0..<count).map { _ in
      var point = Double.random(in: 0..<self.total, using: &random)
      let stratum =
        self.strata.first {
          point -= $0.share
          return point < 0
        } ?? self.strata[self.strata.count - 1]
      return stratum.samples[Int.random(in: 0..<stratum.samples.count, using: &random)]
    }
  }
}

/// SplitMix64 (Steele, Lea and Flood 2014): a small generator that is the same everywhere.
public struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64, stream: UInt64 = 0) {
    self.state = seed
    let mixed = self.next()
    self.state = mixed ^ (stream &* 0xD6E8_FEB8_6659_FD93)
  }

  public mutating func next() -> UInt64 {
    self.state &+= 0x9E37_79B9_7F4A_7C15
    var z = self.state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
