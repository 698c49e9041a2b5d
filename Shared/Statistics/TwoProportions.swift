import Foundation

/// Comparison of two independent proportions.
public enum TwoProportions {
  /// Two-sided p-value of the pooled z-test.
  ///
  /// 1 where neither varies. See A. Agresti, "Categorical Data Analysis", 3.1.
  public static func zTest(_ a: Proportion, _ b: Proportion) -> Double {
    let n = Double(a.trials)
    let m = Double(b.trials)
    guard n > 0, m > 0 else { return 1 }
    let pooled = Double(a.successes + b.successes) / (n + m)
    let variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    guard variance > 0 else { return 1 }
    return min(1, 2 * Normal.cumulative(-abs(a.rate - b.rate) / variance.squareRoot()))
  }

  /// Two-sided p-value of Fisher's exact test: the sum of all tables no likelier than the one seen.
  public static func fisherTest(_ a: Proportion, _ b: Proportion) -> Double {
    let successes = a.successes + b.successes
    let total = a.trials + b.trials
    guard a.trials > 0, b.trials > 0 else { return 1 }
    func logChoose(_ n: Int, _ k: Int) -> Double {
      lgamma(Double(n) + 1) - lgamma(Double(k) + 1) - lgamma(Double(n - k) + 1)
    }
    func probability(_ k: Int) -> Double {
      exp(logChoose(a.trials, k) + logChoose(b.trials, successes - k) - logChoose(total, successes))
    }
    let seen = probability(a.successes)
    let range = max(0, successes - b.trials)...min(a.trials, successes)
    // Tables as likely as the one seen but for rounding count as such.
    return min(1, range.map(probability).filter { $0 <= seen * (1 + 1e-7) }.reduce(0, +))
  }

  /// Two-sided p-value: exact where an expected count is below 5 (Cochran's rule), else the z-test.
  public static func test(_ a: Proportion, _ b: Proportion) -> Double {
    let n = Double(a.trials + b.trials)
    guard n > 0 else { return 1 }
    let successes = Double(a.successes + b.successes)
    let smallest = Double(min(a.trials, b.trials)) * min(successes, n - successes) / n
    return smallest < 5 ? self.fisherTest(a, b) : self.zTest(a, b)
  }

  /// Newcombe's hybrid score interval of b − a (method 10).
  ///
  /// R. G. Newcombe, "Interval estimation for the difference between independent proportions", Stat. Med. 17 (1998).
  public static func differenceInterval(
    _ a: Proportion, _ b: Proportion, confidence: Double = 0.95
  ) -> ClosedRange<Double> {
    let first = a.wilsonInterval(confidence: confidence)
    let second = b.wilsonInterval(confidence: confidence)
    let difference = b.rate - a.rate
    let down = (pow(b.rate - second.lowerBound, 2) + pow(first.upperBound - a.rate, 2)).squareRoot()
    let up = (pow(second.upperBound - b.rate, 2) + pow(a.rate - first.lowerBound, 2)).squareRoot()
    return max(-1, difference - down)...min(1, difference + up)
  }

  /// Trials per arm with which a two-sided z-test at `alpha` finds a true change from `a` to `b` with probability `power`.
  ///
  /// J. L. Fleiss, "Statistical Methods for Rates and Proportions", 3.2, without continuity correction.
  public static func trialsPerArm(from a: Double, to b: Double, alpha: Double = 0.05, power: Double = 0.8)
    -> Int
  {
    precondition(a != b && (0...1).contains(a) && (0...1).contains(b), "Rates must differ and lie in [0, 1].")
    let mean = (a + b) / 2
    let alphaTerm = Normal.quantile(1 - alpha / 2) * (2 * mean * (1 - mean)).squareRoot()
    let powerTerm = Normal.quantile(power) * (a * (1 - a) + b * (1 - b)).squareRoot()
    return Int((pow(alphaTerm + powerTerm, 2) / pow(a - b, 2)).rounded(.up))
  }
}

/// What an experiment between two versions says.
public struct ExperimentVerdict: Sendable, Hashable {
  public enum Decision: String, Sendable, Hashable {
    /// The candidate is better.
    case promote
    /// The candidate is worse.
    case rollback
    /// The data does not decide.
    case inconclusive
  }

  public var decision: Decision
  public var pValue: Double
  /// Of candidate minus baseline.
  public var difference: ClosedRange<Double>
  /// In words, for people.
  public var explanation: String
}

/// The rule of a fixed-horizon experiment: judged once, when each arm has its trials. Looking earlier would raise the error rate.
public struct FixedHorizonRule: Sendable, Hashable {
  /// Trials that each arm needs.
  public var trialsPerArm: Int
  /// Probability of a decision when both are the same, in (0, 1).
  public var alpha: Double

  public init(trialsPerArm: Int, alpha: Double = 0.05) {
    self.trialsPerArm = trialsPerArm
    self.alpha = alpha
  }

  public func isReached(baseline: Proportion, candidate: Proportion) -> Bool {
    min(baseline.trials, candidate.trials) >= self.trialsPerArm
  }

  /// The verdict on what there is; inconclusive where the horizon is not reached.
  public func verdict(baseline: Proportion, candidate: Proportion) -> ExperimentVerdict {
    let p = TwoProportions.test(baseline, candidate)
    let difference = TwoProportions.differenceInterval(baseline, candidate)
    let reached = self.isReached(baseline: baseline, candidate: candidate)
    let decision: ExperimentVerdict.Decision =
      !reached || p >= self.alpha || candidate.rate == baseline.rate
      ? .inconclusive : candidate.rate > baseline.rate ? .promote : .rollback
    func percent(_ value: Double) -> String { String(format: "%.1f", value * 100) }
    let text =
      "candidate \(candidate.successes)/\(candidate.trials) against baseline \(baseline.successes)/\(baseline.trials): "
      + "difference \(percent(candidate.rate - baseline.rate)) percentage points "
      + "(95 % \(percent(difference.lowerBound)) … \(percent(difference.upperBound))), p = \(String(format: "%.4f", p))"
      + (reached ? "" : "; fewer than \(self.trialsPerArm) trials an arm")
    return ExperimentVerdict(decision: decision, pValue: p, difference: difference, explanation: text)
  }
}
