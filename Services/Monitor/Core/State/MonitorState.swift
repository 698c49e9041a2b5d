package import Schemas
import ServiceKit

/// Everything that the monitor concludes, as a value: no clock, no disk, no socket.
package struct MonitorState: Sendable, Hashable {
  package struct Limits: Sendable, Hashable {
    /// Failures in a row that are still fine; one more takes the robot out of the work.
    package var failures = 5
    /// Time watched without a heartbeat after which a robot is offline.
    package var offline: Duration = .seconds(5)
    /// Time between two ticks; of more than two that went by between them the monitor slept through the rest.
    package var tick: Duration = .seconds(1)
    /// Questions in a row without an answer that make a service unresponsive, and as many for one that never answered yet.
    package var probes = 3
    package var firstProbes = 15
    /// Time watched in which a robot says that it is unhealthy, although it was told otherwise, until it is believed.
    package var unheard: Duration = .seconds(30)
    /// Trials in a robot's spool from which on an operator is told.
    package var spooledTrials = 50
    package var robots = 10_000
    /// Of these, robots that are known by safety events alone: anybody may make up names where there are no keys.
    package var strangers = 100
    package init() {}
  }

  package var robots: [String: RobotEntry] = [:]
  package var presence: [String: RobotPresence] = [:]
  package var alerts = AlertBook()
  package var watches: [String: WatchRecord] = [:]
  package var services: [String: ServiceCondition] = [:]
  package var clock = WatchClock()
  /// The last trial, in the order of storing, up to which ingest's list was read.
  package var cursor: TrialCursor?
  package var limits = Limits()
  /// Safety events, since the monitor started, of robots that it has no room to know; nobody is told of them.
  package var droppedEvents: UInt64 = 0

  package init() {}

  // MARK: Telemetry

  package mutating func hear(_ heard: Heartbeat, salt: String, now: Int64) {
    guard var robot = self.entry(heard.robot) else { return }
    let heartbeat = heard.bounded
    var presence = self.presence[robot.name] ?? RobotPresence(seen: self.clock.watched)
    robot.facility = heartbeat.facility
    robot.isExpected = true
    presence.heartbeat = heartbeat
    presence.heardUnixNanos = now
    presence.seen = self.clock.watched
    presence.isOffline = false
    presence.unheardSince =
      heartbeat.state == .unhealthy && robot.isHealthy ? presence.unheardSince ?? self.clock.watched : nil
    if let since = presence.unheardSince,
      robot.healthGeneration == 0 || self.clock.watched - since > self.limits.unheard
    {
      // An earlier monitor, whose database is gone or newer than this one's, took it out; only an operator lets it back.
      robot.set(healthy: false, reason: "the robot says that it is unhealthy", now: now)
      presence.unheardSince = nil
      self.raiseFailures(robot, salt: salt, now: now)
    }
    self.robots[robot.name] = robot
    self.presence[robot.name] = presence
    self.alerts.resolve(AlertSubject(name: "RobotOffline", robot: robot.name), now: now)
    self.set(
      heartbeat.state == .stopped, Self.safetyStop(robot.name, heartbeat.stopReason), salt: salt, now: now)
    self.set(
      !heartbeat.installError.isEmpty,
      Alert(
        name: "ModelInstallFailed", severity: .warning, robot: robot.name,
        modelVersion: heartbeat.desiredVersion,
        summary: "\(robot.name) cannot install \(heartbeat.desiredVersion): \(heartbeat.installError)",
        remedy: "It goes on with \(heartbeat.modelVersion.isEmpty ? "no model" : heartbeat.modelVersion). "
          + "Look at the model's signature and expiry, and at the robot's disk."),
      salt: salt, now: now)
    let spooled = Int(heartbeat.spooledTrials)
    // Between the two bounds an open alert stays and a closed one is not opened.
    if spooled >= self.limits.spooledTrials || spooled <= self.limits.spooledTrials / 2 {
      self.set(
        spooled >= self.limits.spooledTrials,
        Alert(
          name: "SpoolGrowing", severity: .warning, robot: robot.name,
          summary: "\(robot.name) keeps \(spooled) trials that nobody acknowledged.",
          remedy:
            "Look whether ingest runs and the robot's link works; no trial is lost while its disk has room.",
          labels: ["bytes": "\(heartbeat.spooledBytes)"]),
        salt: salt, now: now)
    }
  }

  mutating func set(_ isRaised: Bool, _ alert: Alert, salt: String, now: Int64) {
    if isRaised {
      self.alerts.raise(alert, salt: salt, now: now)
    } else {
      self.alerts.resolve(AlertSubject(alert), now: now)
    }
  }

  /// The robot's entry, a new one where there is room and the name is a name.
  func entry(_ name: String) -> RobotEntry? {
    if let known = self.robots[name] { return known }
    guard Names.isValid(name), self.robots.count < self.limits.robots else { return nil }
    return RobotEntry(name: name)
  }

  // MARK: Outcomes

  /// Counts a trial that ingest stored; one that was counted before changes nothing.
  package mutating func hear(
    robot name: String, trialID: String, outcome: Outcome, salt: String, now: Int64
  ) {
    guard var robot = self.entry(name), robot.count(trialID: trialID, outcome: outcome) else { return }
    if robot.isHealthy, robot.consecutiveFailures > self.limits.failures {
      robot.set(healthy: false, reason: "\(robot.consecutiveFailures) failures in a row", now: now)
      self.raiseFailures(robot, salt: salt, now: now)
    }
    self.robots[name] = robot
  }

  private mutating func raiseFailures(_ robot: RobotEntry, salt: String, now: Int64) {
    self.alerts.raise(
      Alert(
        name: "RobotConsecutiveFailures", severity: .critical, robot: robot.name,
        summary: "\(robot.name) is out of the work: \(robot.reason).",
        remedy: "Inspect camera, gripper and joints, repair, then: fleet robots resume \(robot.name)",
        labels: ["consecutive_failures": "\(robot.consecutiveFailures)", "facility": robot.facility]),
      salt: salt, now: now)
  }

  /// Lets an unhealthy robot back to work; changes nothing where it is healthy and does not say otherwise itself.
  /// - Returns: whether it was unhealthy.
  /// - Throws: ``MonitorError`` `.notFound`, `.invalid` where nobody is named.
  package mutating func resume(
    _ name: String, by: String, reason: String = "", now: Int64
  ) throws(MonitorError) -> Bool {
    guard var robot = self.robots[name] else {
      throw MonitorError(
        .notFound,
        "No robot '\(name.prefix(64))' is known. Known: "
          + self.robots.keys.sorted().prefix(20).joined(separator: ", "))
    }
    guard !by.isEmpty else { throw MonitorError(.invalid, "Say who resumes the robot.") }
    guard !robot.isHealthy || self.presence[name]?.heartbeat?.state == .unhealthy else { return false }
    let why = reason.isEmpty ? "" : ": \(reason.firstScalars(300))"
    robot.set(healthy: true, reason: "resumed by \(by.firstScalars(100))\(why)", now: now)
    self.robots[name] = robot
    self.presence[name]?.unheardSince = nil
    self.alerts.resolve(AlertSubject(name: "RobotConsecutiveFailures", robot: name), now: now)
    return true
  }

  // MARK: Time

  /// - Parameters:
  ///   - now: Unix nanoseconds, for people.
  ///   - instant: the same moment on the clock that no step moves.
  package mutating func tick(salt: String, now: Int64, instant: ContinuousClock.Instant) {
    self.clock.tick(instant, atMost: self.limits.tick * 2)
    self.alerts.resolveAcknowledged(now: now)
    for robot in self.robots.values where robot.isExpected {
      var presence = self.presence[robot.name] ?? RobotPresence(seen: self.clock.watched)
      if !presence.isOffline, self.clock.watched - presence.seen > self.limits.offline {
        presence.isOffline = true
        // Who hears nothing disobeys nobody.
        presence.unheardSince = nil
        self.alerts.raise(
          Alert(
            name: "RobotOffline", severity: .warning, robot: robot.name,
            summary: "\(robot.name) sent no heartbeat for \(self.limits.offline).",
            remedy: "Look at its power and its link; it spools its trials and sends them when it is back.",
            labels: ["facility": robot.facility]),
          salt: salt, now: now)
      }
      if self.presence[robot.name] != presence { self.presence[robot.name] = presence }
    }
  }

  // MARK: Rows

  /// - Parameter counts: each robot's trials, as ingest counted them.
  package func rows(counts: [String: (successes: UInt64, trials: UInt64)]) -> [RobotRow] {
    self.robots.values.sorted { $0.name < $1.name }.map { robot in
      let presence = self.presence[robot.name]
      let count = counts[robot.name] ?? (0, 0)
      return RobotRow(
        robot: robot.name, state: Self.state(robot, presence), heartbeat: presence?.heartbeat,
        lastSeenUnixNanos: presence?.heardUnixNanos ?? 0,
        successes: count.successes, trials: count.trials,
        consecutiveFailures: UInt32(clamping: robot.consecutiveFailures), reason: Self.reason(robot, presence)
      )
    }
  }

  /// Why it does not work, or why it may again.
  private static func reason(_ robot: RobotEntry, _ presence: RobotPresence?) -> String {
    guard let heartbeat = presence?.heartbeat, heartbeat.state == .stopped else { return robot.reason }
    return heartbeat.stopReason.isEmpty ? "safety stop" : heartbeat.stopReason
  }

  static func state(_ robot: RobotEntry, _ presence: RobotPresence?) -> RobotState {
    guard let heartbeat = presence?.heartbeat, presence?.isOffline == false else {
      // Of one that was there before this monitor started nothing is known until it was waited for.
      return robot.isExpected && presence?.isOffline != true ? .unspecified : .offline
    }
    if heartbeat.state == .stopped { return .stopped }
    if !robot.isHealthy { return .unhealthy }
    // It has not heard yet that it may work again.
    return heartbeat.state == .unhealthy ? .idle : heartbeat.state
  }
}
