package import Schemas
import ServiceKit

/// What an alert is about: there is one open alert for each.
package struct AlertSubject: Sendable, Hashable {
  /// "RobotOffline" and so on.
  package var name: String
  package var robot = ""
  package var releaseID = ""
  /// A service, or a place of the log.
  package var subject = ""

  package init(name: String, robot: String = "", releaseID: String = "", subject: String = "") {
    self.name = name
    self.robot = robot
    self.releaseID = releaseID
    self.subject = subject
  }

  init(_ alert: Alert) {
    self.init(name: alert.name, robot: alert.robot, releaseID: alert.releaseID, subject: alert.subject)
  }
}

/// Every alert and its life: firing, acknowledged, resolved. Raising what is open already changes nothing.
package struct AlertBook: Sendable, Hashable {
  /// Alerts that are kept; the oldest resolved ones go first.
  package static let capacity = 10_000
  /// Names of alerts whose cause does not end by itself, because something is lost, or waits for a person: they are resolved once
  /// acknowledged.
  static let endedByAcknowledgement: Set = [
    MonitorState.damageAlert, MonitorState.workAlert, MonitorState.versionsAlert,
    MonitorState.heldAlert,
  ]

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

  /// Newest first: what is told as it comes is told from the end of it.
  package func list(includeResolved: Bool) -> [Alert] {
    self.alerts.values.filter { includeResolved || $0.state != .resolved }
      .sorted { Self.number($0.alertID) > Self.number($1.alertID) }
  }

  /// Where an alert stands among all that are shown: the most severe first, of one severity the newest.
  private struct Rank: Comparable {
    var severity: Int
    var number: Int

    init(severity: Int, number: Int) {
      self.severity = severity
      self.number = number
    }

    init(_ alert: Alert) {
      self.init(severity: Int(alert.severity.rawValue), number: AlertBook.number(alert.alertID))
    }

    /// - Parameter token: of a page; nil where it is none.
    init?(token: String) {
      let words = token.split(separator: "-", omittingEmptySubsequences: false)
      guard words.count == 2, let severity = Int(words[0]), let number = Int(words[1]), severity >= 0,
        number > 0
      else { return nil }
      self.init(severity: severity, number: number)
    }

    var token: String { "\(self.severity)-\(self.number)" }

    static func < (a: Self, b: Self) -> Bool {
      a.severity == b.severity ? a.number > b.number : a.severity > b.severity
    }
  }

  /// The one order in which alerts are shown: the most severe first, then newest first.
  package func mostSevereFirst(includeResolved: Bool = false) -> [Alert] {
    self.alerts.values.filter { includeResolved || $0.state != .resolved }.sorted { Rank($0) < Rank($1) }
  }

  /// Alerts, the most severe first, then newest first, a page at a time.
  /// - Parameter token: from the page before; empty for the first.
  /// - Returns: the alerts, and the token of the next page, empty after the last.
  /// - Throws: ``MonitorError`` `.invalid` for a token that was never given.
  package func page(
    includeResolved: Bool, size: Int, token: String
  ) throws(MonitorError) -> (alerts: [Alert], next: String) {
    var rest = self.mostSevereFirst(includeResolved: includeResolved)
    if !token.isEmpty {
      guard let last = Rank(token: token) else {
        throw MonitorError(.invalid, "'\(token.prefix(64))' is no page token; begin without one.")
      }
      rest.removeAll { Rank($0) <= last }
    }
    let alerts = Array(rest.prefix(size))
    return (alerts, alerts.count < rest.count ? alerts.last.map { Rank($0).token } ?? "" : "")
  }

  /// Opens an alert unless its subject has one.
  /// - Parameter draft: id, state and time are filled in, and how it is ended where only an operator ends it.
  package mutating func raise(_ draft: Alert, salt: String, now: Int64) {
    let subject = AlertSubject(draft)
    guard self.open[subject] == nil else { return }
    self.count += 1
    var alert = draft
    alert.alertID = "alert-\(self.count)-\(salt)"
    alert.state = .firing
    alert.startedUnixNanos = now
    if Self.endedByAcknowledgement.contains(alert.name) {
      alert.remedy += " Then: fleet alerts acknowledge \(alert.alertID)"
    }
    self.alerts[alert.alertID] = alert
    self.open[subject] = alert.alertID
    self.forgetOldest()
  }

  /// Raises an alert about something that is gone each time it is said: where one is open, it tells the last and how many
  /// there were, and asks to be taken note of again.
  package mutating func raiseOnceMore(_ draft: Alert, salt: String, now: Int64) {
    guard let id = self.open[AlertSubject(draft)], var alert = self.alerts[id] else {
      return self.raise(draft, salt: salt, now: now)
    }
    let before = Int(alert.labels[Self.timesLabel] ?? "") ?? 1
    alert.labels[Self.timesLabel] = "\(before + 1)"
    alert.summary = "\(draft.summary) That is the last of \(before + 1)."
    alert.state = .firing
    alert.acknowledgedBy = ""
    self.alerts[id] = alert
  }

  /// How often something happened that one alert tells of.
  package static let timesLabel = "times"

  package mutating func resolve(_ subject: AlertSubject, now: Int64) {
    guard let id = self.open[subject] else { return }
    self.open[subject] = nil
    self.alerts[id]?.state = .resolved
    self.alerts[id]?.resolvedUnixNanos = now
  }

  /// Resolves what an operator has taken note of, where nothing else ends it.
  package mutating func resolveAcknowledged(now: Int64) {
    for alert in self.alerts.values
    where alert.state == .acknowledged && Self.endedByAcknowledgement.contains(alert.name) {
      self.resolve(AlertSubject(alert), now: now)
    }
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
    alert.acknowledgedBy = by.firstScalars(100)
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
