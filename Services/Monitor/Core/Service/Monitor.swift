package import Logging
package import Schemas
package import ServiceKit
package import Statistics
package import Storage

/// The owner of the state: what somebody asks for is durable before it is answered or published.
///
/// What is only seen, a robot's heartbeat or a service's silence, is shown and told whatever the disk says: a monitor that can
/// write nothing must not show yesterday as today. It is written once the disk takes it again; after a restart before that it
/// is seen anew.
package actor Monitor {
  private let store: any MonitorStoring
  private let runtime: Runtime
  private let metrics: MetricsRegistry
  private let vitals: Vitals
  private let logger: Logger
  private let rule: RegressionWatch
  private let executor: any SerialExecutor
  private var state: MonitorState
  /// What the store holds of it.
  private var stored: MonitorState
  /// Whether the store lacks something of it.
  private var isAhead = false
  private var watchers: [Int: AsyncStream<Alert>.Continuation] = [:]
  private var watcherCount = 0
  /// Ingest's and rollout's last words.
  private var heard = StatusBoard.Facts()
  private let startedUnixNanos: Int64
  /// Changes for the bus, oldest first.
  package nonisolated let changes: AsyncStream<Change>
  private let continuation: AsyncStream<Change>.Continuation

  private static let database = "database"
  private static let records = "records"

  package enum Change: Sendable {
    case alert(Alert)
    case directive(HealthDirective)
  }

  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    self.executor.asUnownedSerialExecutor()
  }

  /// - Parameter vitals: told of a database that cannot be written.
  /// - Throws: ``MonitorError`` `.storage` where the state cannot be read.
  package init(
    store: any MonitorStoring, limits: MonitorState.Limits = .init(), rule: RegressionWatch = .init(),
    metrics: MetricsRegistry, vitals: Vitals, logger: Logger, runtime: Runtime = .system
  ) throws(MonitorError) {
    self.store = store
    self.rule = rule
    self.metrics = metrics
    self.vitals = vitals
    self.logger = logger
    self.runtime = runtime
    self.executor = runtime.makeSerialExecutor("fleetloop.monitor.state")
    self.startedUnixNanos = runtime.unixNanos()
    self.stored = try store.load()
    self.stored.limits = limits
    self.state = self.stored
    let damages = try store.damages()
    for damage in damages { logger.error("damaged record", metadata: ["error": "\(damage)"]) }
    vitals.hold(Self.records, damages)
    // What falls out is asked for by RPC: alerts by ListAlerts, directives come again with the next round.
    (self.changes, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(10_000))
  }

  package var snapshot: MonitorState { self.state }

  /// Makes a transition that somebody asks for: stored first, then in force, then told.
  /// - Throws: what the transition throws; ``MonitorError`` `.storage` where it cannot be stored: then nothing has changed.
  @discardableResult
  package func change<Result>(
    _ transition: (inout MonitorState, _ now: Int64, _ salt: String) throws(MonitorError) -> Result
  ) throws(MonitorError) -> Result {
    try self.make(transition, durably: true)
  }

  /// Makes a transition that only follows what is seen: in force and told also where it cannot be stored yet.
  /// - Throws: what the transition throws.
  @discardableResult
  private func see<Result>(
    _ transition: (inout MonitorState, _ now: Int64, _ salt: String) throws(MonitorError) -> Result
  ) throws(MonitorError) -> Result {
    try self.make(transition, durably: false)
  }

  private func make<Result>(
    _ transition: (inout MonitorState, _ now: Int64, _ salt: String) throws(MonitorError) -> Result,
    durably: Bool
  ) throws(MonitorError) -> Result {
    var new = self.state
    let result = try transition(&new, self.runtime.unixNanos(), self.salt())
    // What was seen before and is not stored yet is no news, but nobody may be told that it is kept.
    guard new != self.state || durably && self.isAhead else { return result }
    // A disk that refuses may take its time for it: what is seen meanwhile waits for the next tick.
    if durably || !self.isAhead {
      do { try self.save(new) } catch {
        // `vitals` say it otherwise: the service is not serving, and the page tells why.
        if durably { throw error }
        self.isAhead = true
      }
    }
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

  /// Sets ids of this process apart from those of one whose database was lost.
  private func salt() -> String {
    let digits = String(self.runtime.random() & 0xFF_FFFF, radix: 16)
    return String(repeating: "0", count: 6 - digits.count) + digits
  }

  // MARK: Input

  package func hear(_ event: TelemetryEvent) throws(MonitorError) {
    try self.see { state, now, salt throws(MonitorError) in
      switch event.event {
      case .heartbeat(let heartbeat): state.hear(heartbeat, salt: salt, now: now)
      case .safety(let safety): state.hear(safety, salt: salt, now: now)
      // Told at once but possibly lost: the durable word is ingest's.
      case .trial, nil: break
      }
    }
  }

  package func hear(_ report: ReportSafetyRequest) throws(MonitorError) -> UInt64 {
    try self.change { state, now, salt throws(MonitorError) in
      try state.hear(report, salt: salt, now: now)
    }
  }

  package func hear(_ outcome: StoredOutcome) throws(MonitorError) {
    try self.see { state, now, salt throws(MonitorError) in
      state.hear(
        robot: outcome.robot, trialID: outcome.trialID, outcome: outcome.outcome, salt: salt, now: now)
    }
  }

  package func hear(_ catchUp: TrialCatchUp) throws(MonitorError) {
    try self.see { state, now, salt throws(MonitorError) in state.hear(catchUp, salt: salt, now: now) }
  }

  package func hear(damages: [LogDamage]) throws(MonitorError) {
    try self.see { state, now, salt throws(MonitorError) in
      state.hear(damages: damages, salt: salt, now: now)
    }
  }

  package func hear(_ answer: HealthAnswer, of service: String) throws(MonitorError) {
    try self.see { state, now, salt throws(MonitorError) in
      state.hear(answer, of: service, salt: salt, now: now)
    }
  }

  /// Rollout's fact, which it tells again and again: a guard need not wait for the disk.
  package func hear(_ request: WatchReleaseRequest) throws(MonitorError) {
    try self.see { state, now, _ throws(MonitorError) in try state.watch(request, now: now) }
  }

  /// - Parameter watches: those that were active before rollout was asked for its releases.
  package func hear(_ releases: [Release], watching watches: [WatchRecord]) throws(MonitorError) {
    try self.see { state, now, _ throws(MonitorError) in
      state.endWatches(among: watches, butOf: releases, now: now)
    }
  }

  package func tick() throws(MonitorError) {
    let instant = self.runtime.now()
    try self.see { state, now, salt throws(MonitorError) in
      state.tick(salt: salt, now: now, instant: instant)
    }
    try self.writeAnewWhereBroken()
    // Until who mended them has deleted them.
    if self.vitals.broken.contains(where: { $0.part == Self.records }) {
      self.vitals.hold(Self.records, try self.store.damages())
    }
  }

  /// In a quiet fleet nothing may have to be written for hours: a database that failed is tried with all that it should hold.
  private func writeAnewWhereBroken() throws(MonitorError) {
    guard self.vitals.broken.contains(where: { $0.part == Self.database }) else { return }
    try self.save(self.state, whole: true)
  }

  /// Stores what differs, and says whether the database works where that shows.
  /// - Parameter whole: stores what does not differ, too.
  private func save(_ new: MonitorState, whole: Bool = false) throws(MonitorError) {
    do {
      var written = try self.store.save(new, replacing: self.stored)
      if whole, !written { written = try self.store.save(new, replacing: MonitorState()) }
      self.stored = new
      self.isAhead = false
      // A heartbeat changes nothing that is stored, and says nothing of a database that is broken.
      if written { self.vitals.recover(Self.database) }
    } catch {
      self.vitals.fail(Self.database, error.message)
      throw error
    }
  }

  package func judge(_ releaseID: String, cells: [OutcomeCount]) throws(MonitorError) {
    let rule = self.rule
    try self.see { state, now, salt throws(MonitorError) in
      state.judge(releaseID, cells: cells, rule: rule, salt: salt, now: now)
    }
  }

  package func remember(counts: [OutcomeCount]) {
    self.heard.counts = counts
    self.heard.countsUnixNanos = self.runtime.unixNanos()
  }

  package func remember(rollout: RolloutDescription) {
    self.heard.rollout = rollout
    self.heard.rolloutUnixNanos = self.runtime.unixNanos()
  }

  package func remember(metrics: [ServiceMetrics]) { self.heard.serviceMetrics = metrics }

  // MARK: Output

  /// What the page shows; cheap: it is drawn by who asks for the page.
  package var facts: StatusBoard.Facts {
    var facts = self.heard
    facts.state = self.state
    facts.services = self.services
    facts.unixNanos = self.runtime.unixNanos()
    return facts
  }

  package var rows: [RobotRow] { self.facts.robots }

  /// Every service that is asked, and this one.
  package var services: [ServiceRow] {
    let now = self.runtime.unixNanos()
    let broken = self.vitals.broken
    let own = ServiceRow(
      service: "monitor", state: broken.isEmpty ? .serving : .notServing,
      sinceUnixNanos: self.startedUnixNanos,
      answeredUnixNanos: now, detail: broken.map { "\($0.part): \($0.reason)" }.joined(separator: "; "))
    return (self.state.services.values.map(\.row) + [own]).sorted { $0.service < $1.service }
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
