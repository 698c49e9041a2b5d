import Foundation

/// Successes among trials.
public struct Proportion: Sendable, Hashable {
  public var successes: Int
  public var trials: Int

  /// - Precondition: 0 ≤ successes ≤ trials.
  public init(successes: Int, trials: Int) {
    precondition(successes >= 0 && successes <= trials, "\(successes) of \(trials) is no proportion.")
    self.successes = successes
    self.trials = trials
  }

  /// The share of successes, in [0, 1]; 0 for no trials.
  public var rate: Double { self.trials == 0 ? 0 : Double(self.successes) / Double(self.trials) }

  public static func + (a: Proportion, b: Proportion) -> Proportion {
    Proportion(successes: a.successes + b.successes, trials: a.trials + b.trials)
  }

  /// Wilson's score interval. [0, 1] for no trials.
  ///
  /// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
  /// - Parameter confidence: in (0, 1).
  public func wilsonInterval(confidence: Double = 0.95) -> ClosedRange<Double> {
    guard self.trials > 0 else { return 0...1 }
    let z = Normal.quantile(0.5 + confidence / 2)
    let n = Double(self.trials)
    let center = (self.rate + z * z / (2 * n)) / (1 + z * z / n)
    let half = z / (1 + z * z / n) * (self.rate * (1 - self.rate) / n + z * z / (4 * n * n)).squareRoot()
    return max(0, center - half)...min(1, center + half)
  }
}

/// The standard normal distribution.
public enum Normal {
  /// P(Z ≤ z).
  public static func cumulative(_ z: Double) -> Double { 0.5 * erfc(-z / 2.0.squareRoot()) }

  /// The z with P(Z ≤ z) = p, to machine precision: bisection over ``cumulative(_:)``.
  /// - Parameter p: in (0, 1).
  public static func quantile(_ p: Double) -> Double {
    precondition(p > 0 && p < 1, "A quantile needs a probability in (0, 1), not \(p).")
    var low = -40.0
    var high = 40.0
    while high - low > 1e-13 * max(1, abs(low)) {
      let middle = (low + high) / 2
      if middle == low || middle == high { break }
      if Self.cumulative(middle) < p { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }
}
