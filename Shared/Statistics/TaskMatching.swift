extension Proportion {
  /// Two sets of outcomes made comparable: only tasks that both tried, and the baseline's tasks weighted as the release's.
  ///
  /// Direct standardisation: the baseline's rate is Σ wₜ·pₜ with wₜ the release's share of trials on task t. Its size is the
  /// one whose binomial variance is that of the weighted mean, 1 / Σ(wₜ² / nₜ), rounded down; so is its count of successes.
  /// See J. L. Fleiss, "Statistical Methods for Rates and Proportions", chapter 19.
  /// - Returns: counts of the baseline as if it had done the release's mix of tasks, and the release's counts.
  public static func matched<Task: Hashable>(
    baseline: [Task: Proportion], release: [Task: Proportion]
  ) -> (baseline: Proportion, release: Proportion) {
    let tasks = release.keys.filter { release[$0]!.trials > 0 && baseline[$0, default: .nothing].trials > 0 }
    let tried = tasks.reduce(Proportion.nothing) { $0 + release[$1]! }
    guard tried.trials > 0 else { return (.nothing, .nothing) }
    var rate = 0.0
    var variance = 0.0
    for task in tasks {
      let weight = Double(release[task]!.trials) / Double(tried.trials)
      rate += weight * baseline[task]!.rate
      variance += weight * weight / Double(baseline[task]!.trials)
    }
    let total = tasks.reduce(0) { $0 + baseline[$1]!.trials }
    // Rounding errors of the sums must not cost a trial.
    let trials = min(total, Int((1 / variance + 1e-9).rounded(.down)))
    let successes = min(trials, Int((rate * Double(trials) + 1e-9).rounded(.down)))
    return (Proportion(successes: successes, trials: trials), tried)
  }

  /// No trials.
  public static let nothing = Proportion(successes: 0, trials: 0)
}
