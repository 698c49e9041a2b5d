package import Logging
package import Schemas
import ServiceKit
package import Storage
import Synchronization
import Trials

/// Who this robot is.
package struct RobotIdentity: Sendable {
  package var name: String
  package var facility: String
  package var cohort: String

  package init(name: String, facility: String = "", cohort: String = "") {
    self.name = name
    self.facility = facility
    self.cohort = cohort
  }
}

/// Everything of a robot that outlives a trial, a link and, as far as it is on disk, the process.
package final class Robot: Sendable {
  package struct Configuration: Sendable {
    package var identity: RobotIdentity
    /// Everything that the robot keeps is below it.
    package var folder: String
    package var spoolBytes: UInt64 = 2 << 30
    /// Bytes of one trial, within what ingest takes.
    package var trialBytes = UInt64(TrialLimits.bytes)
    /// Bytes that must be free on the disk before a trial begins.
    package var reserveBytes: UInt64 = 64 << 20
    package var limits = ActionLimits()
    /// Time that inference has for one answer.
    package var actionBudget: Duration = .milliseconds(100)
    package var executedOfChunk = 1
    /// Time without an observation after which a trial has lost its control program.
    package var controlTimeout: Duration = .seconds(30)

    package init(identity: RobotIdentity, folder: String) {
      self.identity = identity
      self.folder = folder
    }
  }

  package let configuration: Configuration
  package let spool: Spool
  package let queue: WorkQueue
  package let condition: Condition
  package let tasks = OfferedTasks()
  package let vitals: Vitals
  /// What may be lost: it is published.
  package let telemetry: TelemetryOutbox<TelemetryEvent>
  /// What an operator has to hear of: it waits until the monitor has confirmed it, also over a restart but for what is minor.
  package let safety: TelemetryOutbox<SafetyEvent>
  package let model: HeldModel
  package let trials: TrialSlot
  /// When each control stream that is open was heard last.
  let streams = Mutex<[ObjectIdentifier: LastHeard]>([:])
  package let logger: Logger
  package let disk: any Disk
  package let runtime: Runtime
  /// What its disk does not let go.
  package let leftovers: Leftovers
  let damaged: DamagedFiles
  let recorderExecutor: any SerialExecutor
  /// Tells this agent's safety events from those of the one before it.
  private let session: UInt64
  private let mutable = Mutex<(remote: (any RemotePolicy)?, link: String)>((nil, ""))

  /// Opens what an earlier agent left in the folder.
  /// - Parameters:
  ///   - disk: where everything is kept.
  ///   - runtime: the clocks and threads that everything runs on.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(
    _ configuration: Configuration, disk: any Disk = SystemDisk(), runtime: Runtime = .system, logger: Logger
  ) throws(RobotError) {
    self.configuration = configuration
    self.logger = logger
    self.disk = disk
    self.runtime = runtime
    self.recorderExecutor = runtime.makeSerialExecutor("fleetloop.robot.recorder")
    self.telemetry = TelemetryOutbox(runtime: runtime)
    self.leftovers = Leftovers(disk: disk)
    self.session = max(1, runtime.random())
    self.model = HeldModel(runtime: runtime)
    self.trials = TrialSlot(runtime: runtime)
    let folder = configuration.folder
    self.spool = try Spool(
      folder: "\(folder)/spool", limitBytes: configuration.spoolBytes,
      reserveBytes: configuration.reserveBytes, disk: disk, runtime: runtime,
      leftovers: self.leftovers)
    self.condition = try Condition(
      folder: "\(folder)/work", disk: disk, leftovers: self.leftovers, runtime: runtime)
    let kept = KeptEvents(folder: "\(folder)/work", robot: configuration.identity.name, disk: disk)
    let (events, lostEvents) = kept.read(number: runtime.unixNanos())
    self.safety = TelemetryOutbox(
      runtime: runtime, waiting: events, isMinor: \.isMinor,
      keep: { events throws(RobotError) in try kept.write(events) })
    self.queue = try WorkQueue(folder: "\(folder)/work", disk: disk, runtime: runtime) {
      [condition = self.condition] in condition.standing
    }
    self.condition.count(atLeast: self.queue.firstStandstills)
    self.vitals = try Vitals(folder: "\(folder)/work", disk: disk, runtime: runtime)
    self.damaged = try DamagedFiles(folder: "\(folder)/work", disk: disk)
    if let lostEvents { self.report(safety: Self.lostEvents, trialID: "", detail: lostEvents) }
    self.tellOfDamage()
  }

  package var name: String { self.configuration.identity.name }

  /// The policy behind the link in use; nil while there is none.
  package var remote: (any RemotePolicy)? {
    get { self.mutable.withLock { $0.remote } }
    set { self.mutable.withLock { $0.remote = newValue } }
  }

  /// Name of the link in use.
  package var link: String {
    get { self.mutable.withLock { $0.link } }
    set { self.mutable.withLock { $0.link = newValue } }
  }

  /// Waits for nobody, as ``status()`` does not: whatever else the robot does, it says how it is.
  package func heartbeat() -> Heartbeat {
    let usage = self.spool.usage
    let desired = self.model.desired
    var heartbeat = Heartbeat(
      robot: self.name, facility: self.configuration.identity.facility,
      hardwareCohort: self.configuration.identity.cohort,
      modelVersion: self.actingVersion, desiredVersion: desired.version,
      desiredGeneration: desired.generation, spooledTrials: usage.trials, spooledBytes: usage.bytes,
      link: self.link, sentUnixNanos: self.runtime.unixNanos(), installError: self.model.installError)
    self.condition.describe(in: &heartbeat, working: self.trials.current != nil)
    self.vitals.describe(in: &heartbeat)
    heartbeat.unkept = self.unkept ?? ""
    return heartbeat
  }

  package func status() -> RobotStatus {
    let (usage, work) = (self.spool.usage, self.queue.counts)
    return RobotStatus(
      heartbeat: self.heartbeat(), waiting: work.waiting, running: work.running,
      filed: usage.filed, acknowledged: usage.acknowledged, held: work.held, tasks: self.tasks.all)
  }

  /// Holds the robot still and what waits back, at once and whatever the disk does, and tells the monitor; then waits for the
  /// disk, but not longer than an operator does. What it has not got by then ``unkept`` says. Waits for no other call: what the
  /// queue holds follows from the condition, and is written later.
  package func stop(reason: String) async {
    let trialID = self.trials.current?.trialID ?? ""
    self.condition.stop(reason: reason)
    self.report(safety: "stop", trialID: trialID, detail: reason, keeping: false)
    await self.keepStandstill()
  }

  /// Holds the robot still as ``stop(reason:)`` does, and waits for nothing: what the robot does next follows at once.
  func stopNow(reason: String) {
    self.condition.stop(reason: reason)
    Task(executorPreference: self.runtime.taskExecutor) { await self.condition.keep() }
  }

  /// Lifts the stop, also where the disk refuses to keep that; see ``unkept``. One that comes meanwhile is not lifted: whoever
  /// resumes the robot does not know of it.
  /// - Parameter continuing: do what waited when the robot was stopped or found unhealthy, too.
  package func resume(continuing: Bool, reason: String) async {
    let standstills = self.condition.standstills
    // What is held is on the disk before the stop is not: the next agent would not hold it.
    await self.queue.keep()
    self.condition.resume(reason: reason, after: standstills)
    await self.condition.keep()
    await self.queue.resume(continuing: continuing, after: standstills)
  }

  /// Version that the robot acts with: a running trial keeps the one that it began with.
  package var actingVersion: String {
    self.trials.current?.modelVersion ?? self.model.current?.version ?? ""
  }

  /// Hands out no more work and gives the running trial up: the process is about to end.
  package func drain() {
    self.queue.drain()
    self.trials.evict()
  }

  /// Unicode scalars of what a safety event says: it is kept in memory, on the disk, and in the monitor's alerts.
  private static let detailLength = 500

  /// Tells the monitor that a safety limit was hit, or what was lost; see `SafetyEvent` for the kinds.
  /// - Parameter keeping: whether that is on the disk, or refused, before this returns.
  package func report(safety kind: String, trialID: String, detail: String, keeping: Bool = true) {
    self.logger.warning(
      "safety limit",
      metadata: ["safety.kind": "\(kind)", "trial.id": "\(trialID)", "safety.detail": "\(detail)"])
    let event = SafetyEvent(
      robot: self.name, trialID: trialID, kind: kind,
      detail: detail.firstScalars(Self.detailLength),
      timeUnixNanos: self.runtime.unixNanos(), session: self.session)
    self.safety.send(keeping: keeping) { number in
      var event = event
      event.number = number
      return event
    }
  }
}

extension SafetyEvent {
  /// The kinds of which the monitor makes an alert: somebody has to hear of them.
  private static let majorKinds: Set = [
    "stop", "orders-lost", "trial-lost", "versions-lost", "reports-lost", "work-held",
  ]

  /// A limit that held. There may be any number of these, and none needs anybody.
  fileprivate var isMinor: Bool { !Self.majorKinds.contains(self.kind) }
}

/// The one trial that a robot can do at a time.
package final class TrialSlot: Sendable {
  package struct Running: Sendable {
    package var trialID: String
    /// Version that the trial acts with; nil where an expert acts.
    package var modelVersion: String?

    package init(trialID: String, modelVersion: String?) {
      self.trialID = trialID
      self.modelVersion = modelVersion
    }
  }

  private let state = Mutex<(running: Running?, wanted: Bool)>((nil, true))
  /// Notified when a trial ends, and when one is told to give way.
  package let changed: Wakeup

  package init(runtime: Runtime = .system) { self.changed = Wakeup(runtime: runtime) }

  package var current: Running? { self.state.withLock { $0.running } }

  /// - Throws: ``RobotError`` `.notReady` while another trial runs.
  package func take(_ running: Running) throws(RobotError) {
    let other = self.state.withLock { state -> String? in
      if let other = state.running { return other.trialID }
      state = (running, true)
      return nil
    }
    if let other {
      throw RobotError(.notReady, "Trial \(other) is still running; a robot does one at a time.")
    }
  }

  package func release(_ trialID: String) {
    self.state.withLock { if $0.running?.trialID == trialID { $0 = (nil, true) } }
    self.changed.notify()
  }

  /// Tells the running trial to give way: its control program is back without it.
  /// - Returns: whether there was one.
  @discardableResult
  package func evict() -> Bool {
    let any = self.state.withLock { state in
      state.wanted = false
      return state.running != nil
    }
    if any { self.changed.notify() }
    return any
  }

  func isWanted(_ trialID: String) -> Bool {
    self.state.withLock { $0.running?.trialID == trialID && $0.wanted }
  }
}
