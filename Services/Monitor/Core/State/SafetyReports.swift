package import Schemas
import ServiceKit

/// What robots say besides heartbeats, and an operator has to hear of.
extension MonitorState {
  static let workAlert = "WorkLost"
  static let versionsAlert = "VersionsLost"
  static let heldAlert = "WorkHeld"
  /// Events of one report.
  package static let reportedEvents = 256

  /// Takes an event that a robot published, which may come again. One of a robot for which there is no room is counted in
  /// ``droppedEvents``.
  package mutating func hear(_ event: SafetyEvent, salt: String, now: Int64) {
    if !self.take(event, salt: salt, now: now) { self.droppedEvents &+= 1 }
  }

  /// Takes what a robot reports, and goes on reporting until it hears that it was taken.
  /// - Returns: number of the last event of the session that is taken.
  /// - Throws: ``MonitorError`` `.invalid` where the events are not of one robot and session, in order; `.busy` where there is
  ///   no room for the robot: it keeps its events.
  package mutating func hear(
    _ report: ReportSafetyRequest, salt: String, now: Int64
  ) throws(MonitorError) -> UInt64 {
    let events = report.events
    guard let last = events.last, events.count <= Self.reportedEvents, last.session != 0,
      events.allSatisfy({ $0.robot == report.robot && $0.session == last.session }),
      zip(events, events.dropFirst()).allSatisfy({ $0.number < $1.number })
    else {
      throw MonitorError(
        .invalid,
        "A report has 1 to \(Self.reportedEvents) events of its robot and of one session, their numbers growing."
      )
    }
    guard Names.isValid(report.robot) else {
      throw MonitorError(
        .invalid, "'\(report.robot.prefix(100))' is no robot's name; it has \(Names.rule).")
    }
    for event in events where !self.take(event, salt: salt, now: now) {
      throw MonitorError(
        .busy,
        "\(self.limits.strangers) robots are known by their events alone; \(report.robot) has to send a heartbeat first."
      )
    }
    return last.number
  }

  /// - Returns: false where there is no room for its robot.
  private mutating func take(_ event: SafetyEvent, salt: String, now: Int64) -> Bool {
    let alert = Self.alert(about: event)
    // Nothing to tell, and nothing to know it again by.
    if alert == nil, event.session == 0 { return true }
    guard var robot = self.speaker(event.robot) else { return false }
    if robot.take(event), let alert {
      // Each of these is about something else; a stop is a state, however often it is said. What is published without a number
      // may be the same once more.
      if event.session != 0, AlertBook.endedByAcknowledgement.contains(alert.name) {
        self.alerts.raiseOnceMore(alert, salt: salt, now: now)
      } else {
        self.alerts.raise(alert, salt: salt, now: now)
      }
    }
    self.robots[robot.name] = robot
    return true
  }

  /// The entry of a robot that says something. A new one counts as a stranger until it sends a heartbeat.
  private func speaker(_ name: String) -> RobotEntry? {
    guard let robot = self.entry(name) else { return nil }
    if self.robots[name] == nil, self.robots.values.count(where: \.isStranger) >= self.limits.strangers {
      return nil
    }
    return robot
  }

  /// One open alert of a kind and robot; what is lost several times is counted in it. Nil for what needs nobody: limits that held.
  private static func alert(about event: SafetyEvent) -> Alert? {
    switch event.kind {
    case "stop": self.safetyStop(event.robot, event.detail)
    case "orders-lost":
      self.lost(
        self.workAlert, "orders", event, what: "the work that waited on it",
        remedy: "Look at the robot's disk, and send the work again with `fleet robots work`.")
    case "trial-lost":
      self.lost(
        self.workAlert, "trials", event, what: "a trial",
        remedy:
          "`spool/refused` in the robot's folder has what is left of each such trial, and why, unless its file is "
          + "gone. Where ingest did not refuse it, look at the robot's disk."
      )
    case "versions-lost":
      self.lost(
        self.versionsAlert, "", event, what: "what it knew of its models",
        remedy: "Look at the robot's disk, and at which model it has in `fleet robots`.")
    case "reports-lost":
      self.lost(
        self.workAlert, "reports", event, what: "safety events that it had to report",
        remedy: "Look at the robot's disk, and at what its folder has in `spool/refused` and as "
          + "`work/orders.damaged-*`.")
    case "work-held":
      Alert(
        name: self.heldAlert, severity: .warning, robot: event.robot,
        summary: "\(event.robot) holds work back: \(Self.reason(event.detail))",
        remedy:
          "Look at its control program's log, then `fleet robots resume \(event.robot) --continue`, or drop it with "
          + "`fleet work cancel`.")
    default: nil
    }
  }

  static func safetyStop(_ robot: String, _ detail: String) -> Alert {
    Alert(
      name: "SafetyStop", severity: .critical, robot: robot,
      summary: "\(robot) stands still after a safety stop: \(Self.reason(detail))",
      remedy: "Make sure that nobody is hurt and nothing is broken, then resume it at the robot.")
  }

  private static func lost(
    _ name: String, _ subject: String, _ event: SafetyEvent, what: String, remedy: String
  ) -> Alert {
    Alert(
      name: name, severity: .warning, robot: event.robot,
      summary: "\(event.robot) lost \(what): \(Self.reason(event.detail))", remedy: remedy,
      subject: subject)
  }

  private static func reason(_ detail: String) -> String {
    detail.isEmpty ? "no reason was given" : detail.firstScalars(500)
  }
}
