package import Logging
package import Schemas
package import ServiceKit
package import Statistics
import Storage

/// The owner of the state: each change is durable before it is answered or published.
package actor Monitor {
  private let store: MonitorStore
  private let now: @Sendable () -> Int64
  private let metrics: MetricsRegistry
  private let logger: Logger
  private let rule: RegressionWatch
  private let executor = QueueExecutor(label: "fleetloop.monitor.state")
  private var state: MonitorState
  private var watchers: [Int: AsyncStream<Alert>.Continuation] = [:]
  private var watcherCount = 0
  /// Ingest's last count of every outcome.
  package private(set) var counts: [OutcomeCount] = []
  /// Rollout's last words.
  package private(set) var rollout = RolloutDescription()
  /// The other services' last metrics.
  package private(set) var serviceMetrics: [ServiceMetrics] = []
  /// Changes for the bus, oldest first.
  package nonisolated let changes: AsyncStream<Change>
  private let continuation: AsyncStream<Change>.Continuation

  package enum Change: Sendable {
    case alert(Alert)
    case directive(HealthDirective)
  }

  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    self.executor.asUnownedSerialExecutor()
  }

  /// - Parameter now: Unix time in nanoseconds.
  /// - Throws: ``MonitorError`` `.storage` where the state cannot be read.
  package init(
    store: MonitorStore, limits: MonitorState.Limits = .init(), rule: RegressionWatch = .init(),
    metrics: MetricsRegistry, logger: Logger, now: @escaping @Sendable () -> Int64
  ) throws(MonitorError) {
    self.store = store
    self.rule = rule
    self.metrics = metrics
    self.logger = logger
    self.now = now
    self.state = try store.load()
    self.state.limits = limits
    // What falls out is asked for by RPC: alerts by ListAlerts, directives come again with the next round.
    (self.changes, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(10_000))
  }

  package var snapshot: MonitorState { self.state }
  package var unixNanos: Int64 { self.now() }

  /// Makes one transition: stored first, then in force, then told.
  @discardableResult
  package func change<Result>(
    _ transition: (inout MonitorState, _ now: Int64, _ salt: String) throws(MonitorError) -> Result
  ) throws(MonitorError) -> Result {
    var new = self.state
    let result = try transition(&new, self.now(), Self.salt())
    guard new != self.state else { return result }
    try self.store.save(new, replacing: self.state)
    let old = self.state
    self.state = new
    if new.alerts != old.alerts {
      for alert in new.alerts.list(includeResolved: true).reversed()
      where old.alerts.alerts[alert.alertID] != alert {
        self.tell(alert)
      }
    }
    for robot in new.robots.values
    where old.robots[robot.name]?.healthGeneration ?? 0 != robot.healthGeneration {
      self.continuation.yield(.directive(robot.directive))
    }
    return result
  }

  private func tell(_ alert: Alert) {
    self.continuation.yield(.alert(alert))
    for watcher in self.watchers.values { watcher.yield(alert) }
    self.logger.notice(
      "alert changed",
      metadata: [
        "alert.name": "\(alert.name)", "alert.state": "\(alert.state)", "robot": "\(alert.robot)",
        "release.id": "\(alert.releaseID)",
      ])
    self.metrics.increment(
      "monitor_alert_changes_total", labels: ["name": alert.name, "state": "\(alert.state)"],
      help: "Changes of alerts by name and new state.")
  }

  private static func salt() -> String {
    let digits = String(UInt32.random(in: 0...0xFF_FFFF), radix: 16)
    return String(repeating: "0", count: 6 - digits.count) + digits
  }

  // MARK: Input

  package func hear(_ event: TelemetryEvent) throws(MonitorError) {
    try self.change { state, now, salt throws(MonitorError) in
      switch event.event {
      case .heartbeat(let heartbeat): state.hear(heartbeat, salt: salt, now: now)
      case .safety(let safety): state.hear(safety, salt: salt, now: now)
      // Told at once but possibly lost: the durable word is ingest's.
      case .trial, nil: break
      }
    }
  }

  package func hear(_ outcome: StoredOutcome) throws(MonitorError) {
    try self.change { state, now, salt throws(MonitorError) in
      state.hear(
        robot: outcome.robot, trialID: outcome.trialID, outcome: outcome.outcome,
        storedUnixNanos: outcome.storedUnixNanos, salt: salt, now: now)
    }
  }

  package func hear(_ trials: [TrialSummary]) throws(MonitorError) {
    try self.change { state, now, salt throws(MonitorError) in
      for trial in trials {
        guard let header = trial.header, let end = trial.end else { continue }
        state.hear(
          robot: header.robot, trialID: header.trialID, outcome: end.outcome,
          storedUnixNanos: trial.storedUnixNanos, salt: salt, now: now)
      }
    }
  }

  package func tick() throws(MonitorError) {
    try self.change { state, now, salt throws(MonitorError) in state.tick(salt: salt, now: now) }
  }

  package func judge(_ releaseID: String, cells: [OutcomeCount]) throws(MonitorError) {
    let rule = self.rule
    try self.change { state, now, salt throws(MonitorError) in
      state.judge(releaseID, cells: cells, rule: rule, salt: salt, now: now)
    }
  }

  package func remember(counts: [OutcomeCount]) { self.counts = counts }
  package func remember(rollout: RolloutDescription) { self.rollout = rollout }
  package func remember(metrics: [ServiceMetrics]) { self.serviceMetrics = metrics }

  // MARK: Output

  package var rows: [RobotRow] {
    var counts: [String: (successes: UInt64, trials: UInt64)] = [:]
    for cell in self.counts {
      counts[cell.robot, default: (0, 0)].successes += cell.successes
      counts[cell.robot, default: (0, 0)].trials += cell.trials
    }
    return self.state.rows(counts: counts)
  }

  /// Open alerts, then every change, until ``stopWatching(_:)``. A watcher that does not keep up misses the oldest changes.
  package func watchAlerts() throws(MonitorError) -> (id: Int, alerts: AsyncStream<Alert>) {
    guard self.watchers.count < 100 else {
      throw MonitorError(.busy, "100 callers watch alerts already; end some.")
    }
    let (stream, continuation) = AsyncStream<Alert>.makeStream(bufferingPolicy: .bufferingNewest(1_000))
    for alert in self.state.alerts.list(includeResolved: false).reversed() { continuation.yield(alert) }
    self.watcherCount += 1
    self.watchers[self.watcherCount] = continuation
    return (self.watcherCount, stream)
  }

  package func stopWatching(_ id: Int) { self.watchers.removeValue(forKey: id)?.finish() }

  /// Ends every watch, so that no call outlives the service.
  package func stopAllWatching() {
    for watcher in self.watchers.values { watcher.finish() }
    self.watchers = [:]
  }
}
