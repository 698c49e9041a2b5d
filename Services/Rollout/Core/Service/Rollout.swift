package import Logging
package import Schemas
package import ServiceKit
import Statistics
import Storage

/// The owner of the state: each change is durable before it is answered or published.
package actor Rollout {
  private let store: RolloutStore
  private let now: @Sendable () -> Int64
  private let metrics: MetricsRegistry
  private let logger: Logger
  private let executor = QueueExecutor(label: "fleetloop.rollout.state")
  private var state: RolloutState
  /// What the monitor was told about each guarded release by this process.
  private var told: [String: Bool] = [:]
  /// Robots that must hear of a change, oldest first.
  package nonisolated let moved: AsyncStream<DesiredVersion>
  private let moves: AsyncStream<DesiredVersion>.Continuation

  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    self.executor.asUnownedSerialExecutor()
  }

  /// - Parameter now: Unix time in nanoseconds.
  /// - Throws: ``RolloutError`` `.storage` where the state cannot be read.
  package init(
    store: RolloutStore, limits: RolloutState.Limits = .init(), metrics: MetricsRegistry, logger: Logger,
    now: @escaping @Sendable () -> Int64
  ) throws(RolloutError) {
    self.store = store
    self.metrics = metrics
    self.logger = logger
    self.now = now
    self.state = try store.load()
    self.state.limits = limits
    // One that falls out is published again by the periodic round.
    (self.moved, self.moves) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(10_000))
  }

  /// The state now.
  package var snapshot: RolloutState { self.state }

  /// Makes one transition: stored first, then in force, then told to the robots that it moves.
  @discardableResult
  func change<Result>(
    _ transition: (inout RolloutState, _ now: Int64, _ salt: String) throws(RolloutError) -> Result
  ) throws(RolloutError) -> Result {
    var new = self.state
    let result = try transition(&new, self.now(), Self.salt())
    guard new != self.state else { return result }
    try self.store.save(new, replacing: self.state)
    let old = self.state
    self.state = new
    for robot in new.robots.values where old.robots[robot.name]?.generation != robot.generation {
      self.moves.yield(new.desired(robot.name))
    }
    self.count(from: old)
    return result
  }

  private static func salt() -> String {
    let digits = String(UInt32.random(in: 0...0xFF_FFFF), radix: 16)
    return String(repeating: "0", count: 6 - digits.count) + digits
  }

  private func count(from old: RolloutState) {
    for release in self.state.releases.values where old.releases[release.id]?.state != release.state {
      self.metrics.increment(
        "rollout_release_changes_total", labels: ["state": release.state.rawValue],
        help: "Releases by the state that they came to.")
      self.logger.notice(
        "release changed",
        metadata: [
          "release.id": "\(release.id)", "release.state": "\(release.state.rawValue)",
          "model.version": "\(release.version)",
        ])
    }
    for experiment in self.state.experiments.values
    where old.experiments[experiment.id]?.state != experiment.state {
      self.logger.notice(
        "experiment changed",
        metadata: [
          "experiment.id": "\(experiment.id)", "experiment.state": "\(experiment.state.rawValue)",
          "experiment.decision": "\(experiment.decision.rawValue)",
        ])
    }
    self.metrics.set("rollout_robots", to: Double(self.state.robots.count), help: "Robots known.")
    self.metrics.set(
      "rollout_robots_waiting", to: Double(self.state.unsettled.count),
      help: "Robots that do not act yet with what is desired.")
  }

  /// Lets time pass: robots out of reach no longer hold a rollback up.
  package func tick() throws(RolloutError) {
    try self.change { state, now, _ throws(RolloutError) in state.settle(now: now) }
  }

  // MARK: Alerts

  /// Takes a guarded release back where an alert says that it does worse.
  package func hear(_ alert: Alert) throws(RolloutError) {
    guard let release = self.state.releaseToTakeBack(for: alert) else { return }
    try self.change { state, now, salt throws(RolloutError) in
      try state.rollBack(
        release, reason: "alert \(alert.name)", alertID: alert.alertID,
        evidence: RolloutState.evidence(of: alert), salt: salt, now: now)
    }
  }

  /// What the monitor has not been told yet by this process.
  package var untoldWatches: [WatchReleaseRequest] {
    self.state.releases.values.sorted { $0.number < $1.number }.suffix(1_000)
      .filter { $0.guarded && self.told[$0.id] != $0.isActive }
      .map {
        WatchReleaseRequest(
          releaseID: $0.id, modelVersion: $0.version, baselineVersion: $0.previousVersion,
          active: $0.isActive)
      }
  }

  /// Whether an alert could matter.
  package var isGuarding: Bool { self.state.releases.values.contains { $0.guarded && $0.isActive } }

  package func didTell(_ watch: WatchReleaseRequest) { self.told[watch.releaseID] = watch.active }

  // MARK: Experiments

  package var runningExperiments: [ExperimentRecord] {
    self.state.experiments.values.filter { $0.state == .running }.sorted { $0.number < $1.number }
  }

  /// Judges an experiment on what ingest counted.
  @discardableResult
  package func judge(
    _ id: String, counts: [OutcomeCount], endNow: Bool
  ) throws(RolloutError) -> Experiment {
    try self.change { state, now, salt throws(RolloutError) in
      guard let experiment = state.experiments[id] else {
        throw RolloutError(.notFound, "There is no experiment '\(id.prefix(64))'.")
      }
      try state.judge(
        id, baseline: Self.proportion(counts, of: experiment.baseline),
        candidate: Self.proportion(counts, of: experiment.candidate), endNow: endNow, salt: salt, now: now)
      return state.experiments[id].map(state.message(experiment:)) ?? Experiment()
    }
  }

  /// Outcomes under an arm's release, acted by its version: a trial that began before the change is not the arm's.
  static func proportion(_ counts: [OutcomeCount], of arm: ExperimentRecord.Arm) -> Proportion {
    let cells = counts.filter { $0.releaseID == arm.releaseID && $0.modelVersion == arm.version }
    let trials = cells.reduce(0) { $0 + Int(clamping: $1.trials) }
    return Proportion(
      successes: min(trials, cells.reduce(0) { $0 + Int(clamping: $1.successes) }), trials: trials)
  }

  /// The question to ingest about an experiment: trials in which a policy acted.
  static func query(_ experiment: ExperimentRecord) -> SummarizeOutcomesRequest {
    SummarizeOutcomesRequest(
      query: TrialQuery(
        modes: [.policy, .labelledPolicy],
        releaseIDs: [experiment.baseline.releaseID, experiment.candidate.releaseID]))
  }
}
