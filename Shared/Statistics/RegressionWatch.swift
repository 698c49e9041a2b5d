import Foundation

/// Says, while trials come in one by one, whether a release does worse than the version before it.
///
/// An e-process: a bet that pays when the release fails more often than the baseline's rate allows. Its value E has expectation at
/// most 1 while the release is no worse, so by Ville's inequality P(E ever ≥ 1/α) ≤ α: looking after every trial is allowed.
/// See A. Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", Statist. Sci. 38 (2023).
///
/// The baseline's rate is not known but estimated, so the bet is made against a pessimistic one: the lower end of its
/// confidence interval, and lower by the smallest loss that matters.
public struct RegressionWatch: Sendable, Hashable {
  /// Probability of a false alarm over the whole life of a release, in (0, 1).
  public var alpha: Double
  /// Loss of success rate that is tolerated, in [0, 1).
  public var tolerance: Double
  /// Confidence of the baseline's interval.
  public var baselineConfidence: Double
  /// Trials that the baseline needs before anything is compared with it.
  public var minimumBaseline: Int

  public init(
    alpha: Double = 0.01, tolerance: Double = 0.05, baselineConfidence: Double = 0.9, minimumBaseline: Int = 5
  ) {
    self.alpha = alpha
    self.tolerance = tolerance
    self.baselineConfidence = baselineConfidence
    self.minimumBaseline = minimumBaseline
  }

  public struct State: Sendable, Hashable {
    /// Whether there is an alarm.
    public var isRegression: Bool
    /// The e-value; an alarm is raised at 1/alpha.
    public var evidence: Double
    /// Success rate that the release had to beat.
    public var threshold: Double
  }

  /// The state after a release's trials, against its baseline's.
  public func state(baseline: Proportion, release: Proportion) -> State {
    let threshold = max(
      0, baseline.wilsonInterval(confidence: self.baselineConfidence).lowerBound - self.tolerance)
    guard baseline.trials >= self.minimumBaseline, threshold > 0 else {
      return State(isRegression: false, evidence: 1, threshold: threshold)
    }
    let evidence = self.evidence(of: release, against: threshold)
    return State(isRegression: evidence >= 1 / self.alpha, evidence: evidence, threshold: threshold)
  }

  /// Mean likelihood ratio over rates below the threshold against the threshold itself: every one of them is a martingale
  /// under the threshold and a supermartingale under better rates, and so is their mean. It does not depend on the order.
  func evidence(of release: Proportion, against threshold: Double) -> Double {
    let alternatives = 20
    let failures = Double(release.trials - release.successes)
    let ratios = (0..<alternatives).map { index in
      let rate = threshold * (Double(index) + 0.5) / Double(alternatives)
      return exp(
        Double(release.successes) * log(rate / threshold) + failures * log((1 - rate) / (1 - threshold)))
    }
    return ratios.reduce(0, +) / Double(alternatives)
  }
}
