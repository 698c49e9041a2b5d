import Foundation
package import Logging
package import Schemas
import Storage
import Synchronization

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
    package var trialBytes: UInt64 = 256 << 20
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
  package let vitals: Vitals
  package let telemetry = TelemetryOutbox()
  package let model = HeldModel()
  package let trials = TrialSlot()
  package let logger: Logger
  let recorderExecutor = QueueExecutor(label: "fleetloop.robot.recorder")
  private let mutable = Mutex<(remote: (any RemotePolicy)?, link: String)>((nil, ""))

  /// Opens what an earlier agent left in the folder.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(_ configuration: Configuration, logger: Logger) throws {
    self.configuration = configuration
    self.logger = logger
    self.spool = try Spool(
      folder: "\(configuration.folder)/spool", limitBytes: configuration.spoolBytes,
      reserveBytes: configuration.reserveBytes)
    self.queue = try WorkQueue(folder: "\(configuration.folder)/work")
    self.condition = try Condition(folder: "\(configuration.folder)/work")
    self.vitals = try Vitals(folder: "\(configuration.folder)/work")
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

  package func heartbeat() async -> Heartbeat {
    let usage = await self.spool.usage
    let desired = self.model.desired
    var heartbeat = Heartbeat(
      robot: self.name, facility: self.configuration.identity.facility,
      hardwareCohort: self.configuration.identity.cohort,
      state: self.condition.robotState(working: self.trials.current != nil),
      modelVersion: self.actingVersion, desiredVersion: desired.version,
      desiredGeneration: desired.generation, spooledTrials: usage.trials, spooledBytes: usage.bytes,
      link: self.link, sentUnixNanos: Self.unixNanos(), installError: self.model.installError)
    self.vitals.describe(in: &heartbeat)
    return heartbeat
  }

  package func status() async -> RobotStatus {
    let usage = await self.spool.usage
    return RobotStatus(
      heartbeat: await self.heartbeat(), waiting: await self.queue.waiting, running: await self.queue.running,
      filed: usage.filed, acknowledged: usage.acknowledged)
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

  /// Tells the monitor that a safety limit was hit.
  package func report(safety kind: String, trialID: String, detail: String) {
    self.logger.warning(
      "safety limit",
      metadata: ["safety.kind": "\(kind)", "trial.id": "\(trialID)", "safety.detail": "\(detail)"])
    self.telemetry.send(
      .safety(
        SafetyEvent(
          robot: self.name, trialID: trialID, kind: kind, detail: detail, timeUnixNanos: Self.unixNanos())))
  }

  package static func unixNanos() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

/// The model that the robot holds, and the one that it is to hold.
package final class HeldModel: Sendable {
  private struct State {
    var current: (any LocalPolicy)?
    var desired = DesiredVersion()
    var installError = ""
  }

  private let state = Mutex(State())
  package let changed = Wakeup()

  package init() {}

  package var current: (any LocalPolicy)? { self.state.withLock { $0.current } }
  package var desired: DesiredVersion { self.state.withLock { $0.desired } }
  /// Why the desired version could not be installed; empty where it could.
  package var installError: String { self.state.withLock { $0.installError } }

  /// Takes the fleet's wish; one of an older generation is ignored.
  package func desire(_ desired: DesiredVersion) {
    let newer = self.state.withLock { state in
      guard desired.generation > state.desired.generation else { return false }
      state.desired = desired
      state.installError = ""
      return true
    }
    if newer { self.changed.notify() }
  }

  /// Trials that begin from now on act with it.
  package func install(_ policy: (any LocalPolicy)?) {
    self.state.withLock { state in
      state.current = policy
      state.installError = ""
    }
    self.changed.notify()
  }

  package func refuse(_ error: String) {
    self.state.withLock { $0.installError = error }
  }
}

/// The one trial that a robot can do at a time.
package final class TrialSlot: Sendable {
  package struct Running: Sendable {
    package var trialID: String
    /// Version that the trial acts with; nil where an expert acts.
    package var modelVersion: String?
  }

  private let state = Mutex<(running: Running?, wanted: Bool)>((nil, true))
  /// Notified when a trial ends, and when one is told to give way.
  package let changed = Wakeup()

  package init() {}

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
