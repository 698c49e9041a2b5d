/// One experiment: two versions on two random halves of the robots.
package struct ExperimentRecord: Sendable, Hashable, Codable {
  package enum State: String, Sendable, Codable { case running, decided, cancelled }
  package enum Decision: String, Sendable, Codable { case none, promote, rollback, inconclusive }

  package struct Arm: Sendable, Hashable, Codable {
    package var version: String
    package var releaseID: String
    package var robots: [String]
    package var trials = 0
    package var successes = 0
  }

  package var id: String
  /// Order of creation.
  package var number: Int
  package var baseline: Arm
  package var candidate: Arm
  package var state: State = .running
  package var decision: Decision = .none
  package var pValue = 1.0
  package var alpha: Double
  package var trialsPerArm: Int
  package var seed: UInt64
  package var startedUnixNanos: Int64
  package var decidedUnixNanos: Int64 = 0
  package var explanation = ""
  /// What its caller called the request; nil for nothing.
  package var requestID: String?

  package var robots: [String] { (self.baseline.robots + self.candidate.robots).sorted() }
}

/// Random assignment that can be drawn again from its seed.
package enum Assignment {
  /// Splits robots at random.
  /// - Parameter share: of the candidate, in (0, 1); each arm gets at least one robot.
  /// - Precondition: at least two robots.
  package static func split(
    _ robots: [String], share: Double, seed: UInt64
  ) -> (baseline: [String], candidate: [String]) {
    var generator = SplitMix64(state: seed)
    // Sorted first: the same robots in another order are the same draw.
    let shuffled = robots.sorted().shuffled(using: &generator)
    let wanted = Int((Double(robots.count) * share).rounded())
    let count = min(max(1, wanted), robots.count - 1)
    return (shuffled.dropFirst(count).sorted(), shuffled.prefix(count).sorted())
  }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    self.state &+= 0x9E37_79B9_7F4A_7C15
    var z = self.state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
