package import Schemas
import ServiceKit
package import Statistics

extension RolloutState {
  /// Starts an experiment: the robots are split at random, each arm gets its version by a release of its own.
  /// - Returns: the experiment's id.
  package mutating func startExperiment(
    _ request: StartExperimentRequest, seed: UInt64, salt: String, now: Moment
  ) throws(RolloutError) -> String {
    let requestID = try Self.checked(requestID: request.requestID)
    if let requestID, let made = self.experiments.values.first(where: { $0.requestID == requestID }) {
      return made.id
    }
    let alpha = request.alpha == 0 ? 0.05 : request.alpha
    let share = request.candidateShare == 0 ? 0.5 : request.candidateShare
    guard request.baseline != request.candidate else {
      throw RolloutError(
        .invalid, "Baseline and candidate are both '\(request.baseline)'; compare two versions.")
    }
    guard alpha > 0, alpha <= 0.5, share > 0, share < 1 else {
      throw RolloutError(
        .invalid,
        "alpha must lie in (0, 0.5] and the candidate's share in (0, 1), not \(alpha) and \(share).")
    }
    guard (1...10_000_000).contains(request.trialsPerArm) else {
      throw RolloutError(
        .invalid,
        "trials_per_arm must be 1 to 10000000, not \(request.trialsPerArm); "
          + "\(TwoProportions.trialsPerArm(from: 0.5, to: 0.75)) find a step from 50 to 75 % four times in five."
      )
    }
    let robots = try self.known(request.robots)
    guard robots.count >= 2 else {
      throw RolloutError(
        .notNow, "An experiment needs two robots or more; only \(robots.count) is known or was named.")
    }
    for other in self.experiments.values where other.state == .running {
      guard Set(other.robots).isDisjoint(with: robots) else {
        throw RolloutError(.notNow, "Experiment \(other.id) runs on these robots; end it first.")
      }
    }
    let arms = Assignment.split(robots, share: share, seed: seed)
    self.count += 1
    let number = self.count
    let id = "experiment-\(number)-\(salt)"
    func arm(_ state: inout RolloutState, _ version: String, _ robots: [String]) -> ExperimentRecord.Arm {
      let release = state.release(
        version: version, robots: robots, isFleet: false, reason: "arm of \(id)", guarded: false,
        experimentID: id, salt: salt, now: now)
      return ExperimentRecord.Arm(version: version, releaseID: release, robots: robots)
    }
    self.experiments[id] = ExperimentRecord(
      id: id, number: number, baseline: arm(&self, request.baseline, arms.baseline),
      candidate: arm(&self, request.candidate, arms.candidate), alpha: alpha,
      trialsPerArm: Int(request.trialsPerArm), seed: seed, startedUnixNanos: now.unixNanos,
      requestID: requestID)
    return id
  }

  /// Takes in counts of a running experiment, and decides it where its horizon is reached.
  /// - Parameter endNow: decide on what there is; inconclusive where the horizon is not reached.
  package mutating func judge(
    _ id: String, baseline: Proportion, candidate: Proportion, endNow: Bool, salt: String, now: Moment
  ) throws(RolloutError) {
    guard var experiment = self.experiments[id] else {
      throw RolloutError(.notFound, "There is no experiment '\(id.prefix(64))'.")
    }
    guard experiment.state == .running else { return }
    experiment.baseline.trials = baseline.trials
    experiment.baseline.successes = baseline.successes
    experiment.candidate.trials = candidate.trials
    experiment.candidate.successes = candidate.successes
    let rule = FixedHorizonRule(trialsPerArm: experiment.trialsPerArm, alpha: experiment.alpha)
    guard endNow || rule.isReached(baseline: baseline, candidate: candidate) else {
      self.experiments[id] = experiment
      return
    }
    let verdict = rule.verdict(baseline: baseline, candidate: candidate)
    experiment.state = .decided
    experiment.pValue = verdict.pValue
    experiment.explanation = verdict.explanation
    experiment.decidedUnixNanos = now.unixNanos
    switch verdict.decision {
    case .promote where self.pins[experiment.candidate.version] != Self.lostContent:
      experiment.decision = .promote
      experiment.explanation += "; the candidate goes to all robots"
      self.experiments[id] = experiment
      _ = self.release(
        version: experiment.candidate.version, robots: self.robots.keys.sorted(), isFleet: true,
        reason: "\(id): \(verdict.explanation)", guarded: false, experimentID: nil, salt: salt, now: now)
    case .rollback:
      experiment.decision = .rollback
      experiment.explanation += "; all robots back on the baseline"
      self.experiments[id] = experiment
      self.returnToBaseline(experiment, evidence: experiment.explanation, salt: salt, now: now)
      self.takeBack(
        experiment.candidate.releaseID, reason: id, alertID: "", evidence: experiment.explanation, now: now)
    case .promote, .inconclusive:
      let why =
        verdict.decision == .promote
        ? "the candidate is better, but nobody knows its content any more, and other robots could not get it"
        : "the data does not decide"
      experiment.decision = .inconclusive
      experiment.explanation += "; \(why), all robots back on the baseline"
      self.experiments[id] = experiment
      self.returnToBaseline(experiment, evidence: experiment.explanation, salt: salt, now: now)
    }
    self.settle(now: now)
  }

  mutating func cancel(_ experiment: ExperimentRecord, reason: String, salt: String, now: Moment) {
    var experiment = experiment
    experiment.state = .cancelled
    experiment.decidedUnixNanos = now.unixNanos
    experiment.explanation = "cancelled: \(reason.firstScalars(1_000)); all robots back on the baseline"
    self.experiments[experiment.id] = experiment
    self.returnToBaseline(experiment, evidence: experiment.explanation, salt: salt, now: now)
  }

  private mutating func returnToBaseline(
    _ experiment: ExperimentRecord, evidence: String, salt: String, now: Moment
  ) {
    // The fleet's own release is of the baseline version in most cases; then later robots already get it.
    _ = self.release(
      version: experiment.baseline.version, robots: experiment.robots.filter { self.robots[$0] != nil },
      isFleet: false, reason: "\(experiment.id): \(evidence)", guarded: false, experimentID: nil,
      salt: salt, now: now)
  }

  package func message(experiment: ExperimentRecord) -> Experiment {
    func arm(_ arm: ExperimentRecord.Arm) -> ExperimentArm {
      let interval = Proportion(successes: arm.successes, trials: arm.trials).wilsonInterval()
      return ExperimentArm(
        version: arm.version, robots: arm.robots, trials: UInt64(arm.trials),
        successes: UInt64(arm.successes),
        successLow: interval.lowerBound, successHigh: interval.upperBound)
    }
    let state: ExperimentState =
      switch experiment.state {
      case .running: .running
      case .decided: .decided
      case .cancelled: .cancelled
      }
    let decision: ExperimentDecision =
      switch experiment.decision {
      case .none: .unspecified
      case .promote: .promote
      case .rollback: .rollback
      case .inconclusive: .inconclusive
      }
    return Experiment(
      experimentID: experiment.id, baseline: arm(experiment.baseline), candidate: arm(experiment.candidate),
      state: state, decision: decision, pValue: experiment.pValue, alpha: experiment.alpha,
      trialsPerArm: UInt64(experiment.trialsPerArm), seed: experiment.seed,
      startedUnixNanos: experiment.startedUnixNanos, decidedUnixNanos: experiment.decidedUnixNanos,
      releaseIDBaseline: experiment.baseline.releaseID, releaseIDCandidate: experiment.candidate.releaseID,
      explanation: experiment.explanation)
  }
}
