import Foundation
import Testing

@testable import Statistics

@Suite("Proportion")
struct ProportionTests {
  @Test func `Wilson's interval has its published values`() {
    // Newcombe 1998, table I: 81/263 and 15/148, 0/20, 1/29 (method 3).
    let cases: [(Int, Int, Double, Double)] = [
      (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718),
    ]
    for (successes, trials, low, high) in cases {
      let interval = Proportion(successes: successes, trials: trials).wilsonInterval()
      #expect(abs(interval.lowerBound - low) < 6e-5)
      #expect(abs(interval.upperBound - high) < 6e-5)
    }
    #expect(Proportion(successes: 0, trials: 0).wilsonInterval() == 0...1)
  }

  @Test(arguments: [
    (0.975, 1.959963984540054), (0.5, 0), (0.0013498980316300933, -3), (0.9, 1.2815515655446004),
  ])
  func `normal quantiles are right`(p: Double, z: Double) {
    #expect(abs(Normal.quantile(p) - z) < 1e-9)
    #expect(abs(Normal.cumulative(z) - p) < 1e-12)
  }
}

@Suite("TwoProportions")
struct TwoProportionsTests {
  @Test func `Fisher's test has its textbook values`() {
    // Fisher's tea tasting: 3 of 4 against 1 of 4: 0.4857. Agresti, 3.5.
    #expect(
      abs(TwoProportions.fisherTest(.init(successes: 3, trials: 4), .init(successes: 1, trials: 4)) - 0.4857)
        < 1e-4)
    // [[8, 2], [1, 5]]: 0.0350 (scipy.stats.fisher_exact's documentation, transposed).
    #expect(
      abs(TwoProportions.fisherTest(.init(successes: 8, trials: 10), .init(successes: 1, trials: 6)) - 0.0350)
        < 1e-4)
  }

  @Test func `the z-test has hand-computed values`() {
    // 60/100 against 45/100: pooled 0.525, z = 0.15 / sqrt(0.525·0.475·0.02) = 2.1240, p = 0.0337.
    #expect(
      abs(TwoProportions.zTest(.init(successes: 60, trials: 100), .init(successes: 45, trials: 100)) - 0.0337)
        < 1e-4)
    #expect(TwoProportions.zTest(.init(successes: 5, trials: 5), .init(successes: 9, trials: 9)) == 1)
    #expect(TwoProportions.test(.init(successes: 0, trials: 0), .init(successes: 1, trials: 1)) == 1)
  }

  @Test func `Newcombe's interval has its published values`() {
    // Newcombe 1998, table II, method 10: 56/70 and 48/80: 0.0524 … 0.3339; 9/10 and 3/10: 0.1705 … 0.8090.
    let first = TwoProportions.differenceInterval(
      .init(successes: 48, trials: 80), .init(successes: 56, trials: 70))
    #expect(abs(first.lowerBound - 0.0524) < 6e-5 && abs(first.upperBound - 0.3339) < 6e-5)
    let second = TwoProportions.differenceInterval(
      .init(successes: 3, trials: 10), .init(successes: 9, trials: 10))
    #expect(abs(second.lowerBound - 0.1705) < 6e-5 && abs(second.upperBound - 0.8090) < 6e-5)
  }

  @Test func `sample sizes are Fleiss's`() {
    // 72 % → 76 %: (1.95996·sqrt(2·0.74·0.26) + 0.84162·sqrt(0.72·0.28 + 0.76·0.24))² / 0.04² = 1886.2
    #expect(TwoProportions.trialsPerArm(from: 0.72, to: 0.76) == 1887)
  }

  @Test func `a verdict waits for its horizon, and says when data does not decide`() {
    let rule = FixedHorizonRule(trialsPerArm: 20)
    let good = Proportion(successes: 18, trials: 20)
    let poor = Proportion(successes: 6, trials: 20)
    #expect(rule.verdict(baseline: poor, candidate: good).decision == .promote)
    #expect(rule.verdict(baseline: good, candidate: poor).decision == .rollback)
    #expect(
      rule.verdict(baseline: good, candidate: .init(successes: 17, trials: 20)).decision == .inconclusive)
    #expect(
      rule.verdict(baseline: poor, candidate: .init(successes: 19, trials: 19)).decision == .inconclusive)
  }

  @Test func `the rule keeps its error rate when both are the same`() {
    var generator = SeededGenerator(state: 7)
    let rule = FixedHorizonRule(trialsPerArm: 40)
    let decided = (0..<2_000).count { _ in
      func draw() -> Proportion {
        Proportion(
          successes: (0..<40).count { _ in Double.random(in: 0..<1, using: &generator) < 0.7 }, trials: 40)
      }
      return rule.verdict(baseline: draw(), candidate: draw()).decision != .inconclusive
    }
    // 5 % of 2000 is 100; three standard deviations are 29.
    #expect(decided < 130)
    #expect(decided > 40)
  }
}

@Suite("RegressionWatch")
struct RegressionWatchTests {
  private func alarms(baselineRate: Double, releaseRate: Double, trials: Int, runs: Int, seed: UInt64) -> (
    Int, Int
  ) {
    var generator = SeededGenerator(state: seed)
    let watch = RegressionWatch()
    var alarms = 0
    var total = 0
    for _ in 0..<runs {
      let baseline = Proportion(
        successes: (0..<30).count { _ in Double.random(in: 0..<1, using: &generator) < baselineRate },
        trials: 30)
      var release = Proportion(successes: 0, trials: 0)
      for count in 1...trials {
        let success = Double.random(in: 0..<1, using: &generator) < releaseRate
        release = release + Proportion(successes: success ? 1 : 0, trials: 1)
        if watch.state(baseline: baseline, release: release).isRegression {
          alarms += 1
          total += count
          break
        }
      }
    }
    return (alarms, alarms == 0 ? 0 : total / alarms)
  }

  @Test func `looking after every trial keeps false alarms rare`() {
    let (alarms, _) = self.alarms(baselineRate: 0.8, releaseRate: 0.8, trials: 200, runs: 500, seed: 3)
    #expect(alarms <= 15)
  }

  @Test func `a bad release is found within a dozen trials`() {
    let (alarms, mean) = self.alarms(baselineRate: 0.8, releaseRate: 0.02, trials: 60, runs: 200, seed: 5)
    #expect(alarms == 200)
    #expect(mean <= 12)
  }

  @Test func `nothing is said without a baseline`() {
    let watch = RegressionWatch()
    let state = watch.state(
      baseline: .init(successes: 4, trials: 4), release: .init(successes: 0, trials: 50))
    #expect(!state.isRegression)
  }
}

/// SplitMix64, so that a failing draw can be drawn again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    self.state &+= 0x9E37_79B9_7F4A_7C15
    var z = self.state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite("Task matching")
struct TaskMatchingTests {
  @Test func `the baseline gets the release's mix of tasks`() {
    let matched = Proportion.matched(
      baseline: [
        "easy": .init(successes: 90, trials: 100), "hard": .init(successes: 10, trials: 100),
        "other": .init(successes: 5, trials: 5),
      ],
      release: [
        "easy": .init(successes: 9, trials: 10), "hard": .init(successes: 1, trials: 30),
        "new": .init(successes: 0, trials: 7),
      ])
    #expect(matched.release == Proportion(successes: 10, trials: 40))
    // Rate 0.25 · 0.9 + 0.75 · 0.1 = 0.3; size 1 / (0.0625 / 100 + 0.5625 / 100) = 160.
    #expect(matched.baseline == Proportion(successes: 48, trials: 160))
  }

  @Test func `one task alone is left as it is`() {
    let matched = Proportion.matched(
      baseline: ["a": .init(successes: 7, trials: 9)], release: ["a": .init(successes: 2, trials: 3)])
    #expect(matched.baseline == Proportion(successes: 7, trials: 9))
    #expect(matched.release == Proportion(successes: 2, trials: 3))
  }

  @Test func `nothing in common is nothing to compare`() {
    let matched = Proportion.matched(
      baseline: ["a": .init(successes: 1, trials: 1)],
      release: ["b": .init(successes: 1, trials: 1), "a": .nothing])
    #expect(matched.baseline == .nothing)
    #expect(matched.release == .nothing)
  }

  @Test func `random mixes stay proportions`() {
    var generator = SeededGenerator(state: 9)
    for _ in 0..<2_000 {
      func draw() -> [Int: Proportion] {
        Dictionary(
          uniqueKeysWithValues: (0..<4).map { task in
            let trials = Int.random(in: 0...12, using: &generator)
            return (
              task, Proportion(successes: Int.random(in: 0...trials, using: &generator), trials: trials)
            )
          })
      }
      let baseline = draw()
      let release = draw()
      let matched = Proportion.matched(baseline: baseline, release: release)
      #expect(matched.baseline.trials <= baseline.values.reduce(0) { $0 + $1.trials })
      #expect(matched.release.trials <= release.values.reduce(0) { $0 + $1.trials })
      if matched.release.trials > 0 {
        let rates = baseline.values.filter { $0.trials > 0 }.map(\.rate)
        #expect(matched.baseline.rate <= (rates.max() ?? 1) + 1e-9)
      }
    }
  }
}
