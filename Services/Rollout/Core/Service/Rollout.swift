package import Logging
package import Schemas
package import ServiceKit
import Statistics
package import Storage

/// The owner of the state: each change is durable before it is answered or published.
package actor Rollout {
  /// When a transition happens, and the chance that it needs: what a value cannot know.
  package struct Occasion: Sendable {
    package var now: Moment
    /// Random, not 0.
    package var random: UInt64
    /// Random text for an id.
    package var salt: String
  }

  /// Times of reports are stored once in this many nanoseconds.
  static let timesInterval: Int64 = 30_000_000_000

  private let store: any RolloutStoring
  private let runtime: Runtime
  private let began: ContinuousClock.Instant
  private let metrics: MetricsRegistry
  private let vitals: Vitals
  private let logger: Logger
  private let executor: any SerialExecutor
  private var state: RolloutState
  /// Uptime when times of reports were stored last.
  private var timesStored: Int64 = 0
  /// Robots that must hear of a change, oldest first.
  package nonisolated let moved: AsyncStream<DesiredVersion>
  private let moves: AsyncStream<DesiredVersion>.Continuation

  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    self.executor.asUnownedSerialExecutor()
  }

  private static let database = "database"
  private static let records = "records"
  private static let contents = "contents"

  /// - Parameter vitals: told of a database that cannot be written.
  /// - Throws: ``RolloutError`` `.storage` where the state cannot be read.
  package init(
    store: any RolloutStoring, limits: RolloutState.Limits = .init(), runtime: Runtime = .system,
    metrics: MetricsRegistry, vitals: Vitals, logger: Logger
  ) throws(RolloutError) {
    self.store = store
    self.metrics = metrics
    self.vitals = vitals
    self.logger = logger
    self.runtime = runtime
    self.began = runtime.now()
    self.executor = runtime.makeSerialExecutor("fleetloop.rollout.state")
    self.state = try store.load()
    self.state.limits = limits
    let damages = try store.damages()
    for damage in damages { logger.error("damaged record", metadata: ["error": "\(damage)"]) }
    vitals.hold(Self.records, damages)
    self.state.life = runtime.random() | 1
    // One that falls out is published again by the periodic round.
    (self.moved, self.moves) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(10_000))
  }

  /// The state now.
  package var snapshot: RolloutState { self.state }

  /// Makes one transition: stored first, then in force, then told to the robots that it moves.
  @discardableResult
  package func change<Result>(
    _ transition: (inout RolloutState, Occasion) throws(RolloutError) -> Result
  ) throws(RolloutError) -> Result {
    var new = self.state
    let result = try transition(&new, self.occasion())
    guard new != self.state else { return result }
    try self.write { () throws(RolloutError) in try self.store.save(new, replacing: self.state) }
    let old = self.state
    self.state = new
    for robot in new.robots.values.sorted(by: { $0.name < $1.name })
    where old.robots[robot.name]?.generation != robot.generation {
      self.moves.yield(new.desired(robot.name))
    }
    self.count(from: old)
    return result
  }

  /// Runs what writes the state; until it works again, the service says that it cannot do its work.
  /// - Parameter body: says whether it had to write anything: a report that changes nothing tells nothing of a broken database.
  private func write(_ body: () throws(RolloutError) -> Bool) throws(RolloutError) {
    do {
      if try body() { self.vitals.recover(Self.database) }
    } catch {
      self.vitals.fail(Self.database, error.message)
      throw error
    }
  }

  private func occasion() -> Occasion {
    let random = self.runtime.random()
    let digits = String(random & 0xFF_FFFF, radix: 16)
    return Occasion(
      now: Moment(unixNanos: self.runtime.unixNanos(), uptimeNanos: self.uptime), random: random | 1,
      salt: String(repeating: "0", count: 6 - digits.count) + digits)
  }

  private var uptime: Int64 {
    let time = (self.runtime.now() - self.began).components
    return time.seconds * 1_000_000_000 + time.attoseconds / 1_000_000_000
  }

  /// Takes a robot's report.
  /// - Returns: what is desired of it now.
  package func report(_ report: ReportVersionRequest) throws(RolloutError) -> DesiredVersion {
    try self.change { state, occasion throws(RolloutError) in
      let epoch = state.robots[report.robot]?.epoch
      let desired = try state.report(report, epoch: occasion.random, now: occasion.now)
      if let epoch, epoch != 0, epoch != state.robots[report.robot]?.epoch {
        self.logger.warning(
          "robot follows what this database never said; the newer decision stands",
          metadata: ["robot.name": "\(report.robot)", "model.version": "\(desired.version)"])
      }
      return desired
    }
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

  /// Pins every version that was released and has no pin to what is registered, so that it never gets other content. What is not
  /// registered is lost: whatever comes under its name from now on may be something else.
  /// - Parameter content: SHA-256 in hex of a registered version's manifest; nil where it is not registered. Where it throws, the
  ///   version is left for the next start.
  /// - Throws: ``RolloutError`` `.storage`.
  package func pinReleased(_ content: (String) async throws -> String?) async throws(RolloutError) {
    for version in self.state.unpinned {
      let hash: String?
      do { hash = try await content(version) } catch {
        self.logger.error(
          "content of a released version cannot be read",
          metadata: ["model.version": "\(version)", "error": "\(error)"])
        continue
      }
      try self.change { state, _ in state.pins[version] = hash ?? RolloutState.lostContent }
      guard let hash else {
        self.logger.error(
          "nobody knows the content of a released version", metadata: ["model.version": "\(version)"])
        continue
      }
      self.logger.warning(
        "a released version had no pin; what is registered is its content from now on",
        metadata: ["model.version": "\(version)", "model.manifest": "\(hash)"])
    }
    self.tellLost()
  }

  /// Tells of versions at work that nobody knows any more.
  private func tellLost() {
    let lost = self.state.lost.joined(separator: ", ")
    self.vitals.hold(
      Self.contents,
      lost.isEmpty
        ? []
        : [
          "Nobody knows the content of \(lost) any more: neither its pin nor the model is here. Robots that have it go on "
            + "with it, others cannot get it. Release another version; nothing is released under this name again."
        ])
  }

  /// Lets time pass: robots out of reach no longer hold a rollback up, and times of reports reach the disk now and then.
  package func tick() throws(RolloutError) {
    try self.change { state, occasion throws(RolloutError) in state.settle(now: occasion.now) }
    if self.uptime - self.timesStored >= Self.timesInterval { try self.storeTimes() }
    self.tellLost()
    // Until who mended them has deleted them.
    if self.vitals.broken.contains(where: { $0.part == Self.records }) {
      self.vitals.hold(Self.records, try self.store.damages())
    }
  }

  /// Stores when robots reported last.
  package func storeTimes() throws(RolloutError) {
    let moved = self.state.robots.values.filter { $0.heardUptimeNanos > self.timesStored }
    try self.write { () throws(RolloutError) in try self.store.save(times: moved) }
    self.timesStored = self.uptime
  }

  // MARK: Alerts

  /// Takes a guarded release back where an alert says that it does worse.
  package func hear(_ alert: Alert) throws(RolloutError) {
    guard let release = self.state.releaseToTakeBack(for: alert) else { return }
    try self.change { state, occasion throws(RolloutError) in
      try state.rollBack(
        release, reason: "alert \(alert.name)", alertID: alert.alertID,
        evidence: RolloutState.evidence(of: alert), salt: occasion.salt, now: occasion.now)
    }
  }

  /// What the monitor is to compare now, oldest first: the guarded releases that go on.
  package var watches: [WatchReleaseRequest] {
    self.state.releases.values.sorted { $0.number < $1.number }.suffix(1_000)
      .filter { $0.guarded && $0.isActive }
      .map {
        WatchReleaseRequest(
          releaseID: $0.id, modelVersion: $0.version, baselineVersion: $0.previousVersion)
      }
  }

  // MARK: Experiments

  package var runningExperiments: [ExperimentRecord] {
    self.state.experiments.values.filter { $0.state == .running }.sorted { $0.number < $1.number }
  }

  /// Judges an experiment on what ingest counted.
  @discardableResult
  package func judge(
    _ id: String, counts: [OutcomeCount], endNow: Bool
  ) throws(RolloutError) -> Experiment {
    try self.change { state, occasion throws(RolloutError) in
      guard let experiment = state.experiments[id] else {
        throw RolloutError(.notFound, "There is no experiment '\(id.prefix(64))'.")
      }
      try state.judge(
        id, baseline: Self.proportion(counts, of: experiment.baseline),
        candidate: Self.proportion(counts, of: experiment.candidate), endNow: endNow,
        salt: occasion.salt, now: occasion.now)
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
