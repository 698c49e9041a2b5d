package import Schemas

/// What an alert is about: there is one open alert for each.
package struct AlertSubject: Sendable, Hashable {
  /// "RobotOffline" and so on.
  package var name: String
  package var robot = ""
  package var releaseID = ""

  package init(name: String, robot: String = "", releaseID: String = "") {
    self.name = name
    self.robot = robot
    self.releaseID = releaseID
  }

  init(_ alert: Alert) {
    self.init(name: alert.name, robot: alert.robot, releaseID: alert.releaseID)
  }
}

/// Every alert and its life: firing, acknowledged, resolved. Raising what is open already changes nothing.
package struct AlertBook: Sendable, Hashable {
  /// Alerts that are kept; the oldest resolved ones go first.
  package static let capacity = 10_000

  /// By id.
  package private(set) var alerts: [String: Alert] = [:]
  private var open: [AlertSubject: String] = [:]
  /// Alerts so far; a part of each id.
  private var count = 0

  package init() {}

  /// - Parameter alerts: what an earlier process kept.
  package init(alerts: [Alert]) {
    for alert in alerts {
      self.alerts[alert.alertID] = alert
      if alert.state != .resolved { self.open[AlertSubject(alert)] = alert.alertID }
      self.count = max(self.count, Self.number(alert.alertID))
    }
  }

  private static func number(_ id: String) -> Int {
    Int(id.split(separator: "-").dropFirst().first ?? "") ?? 0
  }

  package func openAlert(_ subject: AlertSubject) -> Alert? { self.open[subject].flatMap { self.alerts[$0] } }

  /// Newest first.
  package func list(includeResolved: Bool) -> [Alert] {
    self.alerts.values.filter { includeResolved || $0.state != .resolved }
      .sorted { Self.number($0.alertID) > Self.number($1.alertID) }
  }

  /// Opens an alert unless its subject has one.
  /// - Parameter draft: id, state and time are filled in.
  package mutating func raise(_ draft: Alert, salt: String, now: Int64) {
    let subject = AlertSubject(draft)
    guard self.open[subject] == nil else { return }
    self.count += 1
    var alert = draft
    alert.alertID = "alert-\(self.count)-\(salt)"
    alert.state = .firing
    alert.startedUnixNanos = now
    self.alerts[alert.alertID] = alert
    self.open[subject] = alert.alertID
    self.forgetOldest()
  }

  package mutating func resolve(_ subject: AlertSubject, now: Int64) {
    guard let id = self.open[subject] else { return }
    self.open[subject] = nil
    self.alerts[id]?.state = .resolved
    self.alerts[id]?.resolvedUnixNanos = now
  }

  /// - Throws: ``MonitorError`` `.notFound`, `.notNow` where it is over.
  package mutating func acknowledge(_ id: String, by: String) throws(MonitorError) -> Alert {
    guard var alert = self.alerts[id] else {
      throw MonitorError(.notFound, "There is no alert '\(id.prefix(64))'.")
    }
    guard alert.state != .resolved else {
      throw MonitorError(.notNow, "Alert \(id) is resolved; nothing is left to acknowledge.")
    }
    guard !by.isEmpty else { throw MonitorError(.invalid, "Say who acknowledges the alert.") }
    alert.state = .acknowledged
    alert.acknowledgedBy = String(by.prefix(100))
    self.alerts[id] = alert
    return alert
  }

  private mutating func forgetOldest() {
    guard self.alerts.count > Self.capacity else { return }
    let resolved = self.alerts.values.filter { $0.state == .resolved }
    if let oldest = resolved.min(by: { Self.number($0.alertID) < Self.number($1.alertID) }) {
      self.alerts[oldest.alertID] = nil
    }
  }
}
