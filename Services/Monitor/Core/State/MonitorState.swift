package import Schemas

/// Everything that the monitor concludes, as a value: no clock, no disk, no socket.
package struct MonitorState: Sendable, Hashable {
  package struct Limits: Sendable, Hashable {
    /// Failures in a row that are still fine; one more takes the robot out of the work.
    package var failures = 5
    /// Nanoseconds without a heartbeat after which a robot is offline.
    package var offlineNanos: Int64 = 5_000_000_000
    /// Trials in a robot's spool from which on an operator is told.
    package var spooledTrials = 50
    package var robots = 10_000
    package init() {}
  }

  package var robots: [String: RobotEntry] = [:]
  package var presence: [String: RobotPresence] = [:]
  package var alerts = AlertBook()
  package var watches: [String: WatchRecord] = [:]
  /// Storage time of the newest trial that was counted.
  package var cursorUnixNanos: Int64 = 0
  package var limits = Limits()

  package init() {}

  // MARK: Telemetry

  package mutating func hear(_ heartbeat: Heartbeat, salt: String, now: Int64) {
    guard var robot = self.entry(heartbeat.robot) else { return }
    var presence = self.presence[robot.name] ?? RobotPresence(seenUnixNanos: now)
    robot.facility = heartbeat.facility
    robot.isExpected = true
    presence.heartbeat = heartbeat
    presence.seenUnixNanos = now
    presence.isOffline = false
    if heartbeat.state == .unhealthy, robot.isHealthy, robot.healthGeneration == 0 {
      // An earlier monitor, whose database is gone, took it out; only an operator lets it back.
      robot.set(healthy: false, reason: "the robot says that it is unhealthy", now: now)
      self.raiseFailures(robot, salt: salt, now: now)
    }
    self.robots[robot.name] = robot
    self.presence[robot.name] = presence
    self.alerts.resolve(AlertSubject(name: "RobotOffline", robot: robot.name), now: now)
    self.set(
      heartbeat.state == .stopped, safetyStop(robot.name, "its heartbeat says so"), salt: salt, now: now)
    self.set(
      !heartbeat.installError.isEmpty,
      Alert(
        name: "ModelInstallFailed", severity: .warning, robot: robot.name,
        modelVersion: heartbeat.desiredVersion,
        summary: "\(robot.name) cannot install \(heartbeat.desiredVersion): "
          + heartbeat.installError.prefix(500),
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

  package mutating func hear(_ event: SafetyEvent, salt: String, now: Int64) {
    guard event.kind == "stop", self.entry(event.robot) != nil else { return }
    self.alerts.raise(safetyStop(event.robot, event.detail), salt: salt, now: now)
  }

  private func safetyStop(_ robot: String, _ detail: String) -> Alert {
    Alert(
      name: "SafetyStop", severity: .critical, robot: robot,
      summary: "\(robot) stands still after a safety stop: \(detail.prefix(500))",
      remedy: "Make sure that nobody is hurt and nothing is broken, then resume it at the robot.")
  }

  private mutating func set(_ isRaised: Bool, _ alert: Alert, salt: String, now: Int64) {
    if isRaised {
      self.alerts.raise(alert, salt: salt, now: now)
    } else {
      self.alerts.resolve(AlertSubject(alert), now: now)
    }
  }

  /// The robot's entry, a new one where there is room and the name is a name.
  private func entry(_ name: String) -> RobotEntry? {
    if let known = self.robots[name] { return known }
    guard Self.isName(name), self.robots.count < self.limits.robots else { return nil }
    return RobotEntry(name: name)
  }

  // MARK: Outcomes

  /// Counts a trial that ingest stored; one that was counted before changes nothing.
  package mutating func hear(
    robot name: String, trialID: String, outcome: Outcome, storedUnixNanos: Int64, salt: String, now: Int64
  ) {
    guard var robot = self.entry(name), robot.count(trialID: trialID, outcome: outcome) else { return }
    self.cursorUnixNanos = max(self.cursorUnixNanos, storedUnixNanos)
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

  /// Lets an unhealthy robot back to work.
  /// - Throws: ``MonitorError`` `.notFound`, `.notNow` where it is healthy.
  package mutating func resume(_ name: String, by: String, now: Int64) throws(MonitorError) {
    guard var robot = self.robots[name] else {
      throw MonitorError(
        .notFound,
        "No robot '\(name.prefix(64))' is known. Known: "
          + self.robots.keys.sorted().prefix(20).joined(separator: ", "))
    }
    guard !by.isEmpty else { throw MonitorError(.invalid, "Say who resumes the robot.") }
    guard !robot.isHealthy else {
      throw MonitorError(.notNow, "\(name) is healthy; there is nothing to resume.")
    }
    robot.set(healthy: true, reason: "resumed by \(by.prefix(100))", now: now)
    self.robots[name] = robot
    self.alerts.resolve(AlertSubject(name: "RobotConsecutiveFailures", robot: name), now: now)
  }

  // MARK: Time

  package mutating func tick(salt: String, now: Int64) {
    for robot in self.robots.values where robot.isExpected {
      var presence = self.presence[robot.name] ?? RobotPresence(seenUnixNanos: now)
      if !presence.isOffline, now - presence.seenUnixNanos > self.limits.offlineNanos {
        presence.isOffline = true
        self.alerts.raise(
          Alert(
            name: "RobotOffline", severity: .warning, robot: robot.name,
            summary:
              "\(robot.name) sent no heartbeat for \(self.limits.offlineNanos / 1_000_000_000) seconds.",
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
        lastSeenUnixNanos: presence?.heartbeat == nil ? 0 : presence?.seenUnixNanos ?? 0,
        successes: count.successes, trials: count.trials,
        consecutiveFailures: UInt32(clamping: robot.consecutiveFailures), reason: robot.reason)
    }
  }

  static func state(_ robot: RobotEntry, _ presence: RobotPresence?) -> RobotState {
    guard let presence, let heartbeat = presence.heartbeat, !presence.isOffline else { return .offline }
    if heartbeat.state == .stopped { return .stopped }
    if !robot.isHealthy { return .unhealthy }
    // It has not heard yet that it may work again.
    return heartbeat.state == .unhealthy ? .idle : heartbeat.state
  }

  /// 1 to 64 letters, digits, '.', '_', '-'; the first is no '.'.
  package static func isName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count) && !name.hasPrefix(".")
      && name.unicodeScalars.allSatisfy {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789._-".unicodeScalars.contains($0))
      }
  }
}
