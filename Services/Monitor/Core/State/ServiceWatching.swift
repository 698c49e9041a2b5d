package import Schemas
import ServiceKit

/// One service as questions about its health found it; gone with the process.
package struct ServiceCondition: Sendable, Hashable {
  package var service: String
  package var state = ServiceState.unspecified
  /// Since when it is in this state, and when it answered last; Unix nanoseconds, 0 for never.
  package var sinceUnixNanos: Int64
  package var answeredUnixNanos: Int64 = 0
  /// What is broken, or how the last question ended; empty while it serves.
  package var detail = ""
  /// Questions in a row without an answer.
  package var unanswered = 0

  package var row: ServiceRow {
    ServiceRow(
      service: self.service, state: self.state, sinceUnixNanos: self.sinceUnixNanos,
      answeredUnixNanos: self.answeredUnixNanos, detail: self.detail)
  }
}

/// How a question about a service's health ended.
package enum HealthAnswer: Sendable, Hashable {
  case serving
  /// It says what of it is broken.
  case notServing(String)
  /// Why none came in time.
  case none(String)
}

extension MonitorState {
  private static let unresponsiveAlert = "ServiceUnresponsive"
  private static let notServingAlert = "ServiceNotServing"

  /// Watches these services from now on: what was said of others ends, because nobody asks them any more.
  package mutating func watch(services: Set<String>, now: Int64) {
    self.services = self.services.filter { services.contains($0.key) }
    for alert in self.alerts.list(includeResolved: false)
    where [Self.unresponsiveAlert, Self.notServingAlert].contains(alert.name)
      && !services.contains(alert.subject)
    {
      self.alerts.resolve(AlertSubject(alert), now: now)
    }
  }

  package mutating func hear(_ answer: HealthAnswer, of service: String, salt: String, now: Int64) {
    var condition = self.services[service] ?? ServiceCondition(service: service, sinceUnixNanos: now)
    let before = condition.state
    switch answer {
    case .serving:
      condition.state = .serving
      condition.detail = ""
    case .notServing(let what):
      condition.state = .notServing
      condition.detail = what.firstScalars(500)
    case .none(let why):
      condition.unanswered += 1
      condition.detail = why.firstScalars(500)
      // One that this monitor has not heard yet may still be starting.
      let limit = condition.answeredUnixNanos == 0 ? self.limits.firstProbes : self.limits.probes
      if condition.unanswered >= limit { condition.state = .unresponsive }
    }
    if case .none = answer {
    } else {
      condition.unanswered = 0
      condition.answeredUnixNanos = now
    }
    if condition.state != before { condition.sinceUnixNanos = now }
    self.services[service] = condition
    self.alert(about: condition, salt: salt, now: now)
  }

  private mutating func alert(about condition: ServiceCondition, salt: String, now: Int64) {
    let service = condition.service
    // Until it is unresponsive, silence is no news.
    if condition.unanswered == 0 || condition.state == .unresponsive {
      self.set(
        condition.state == .unresponsive,
        Alert(
          name: Self.unresponsiveAlert, severity: .critical,
          summary: "\(service) answered none of \(condition.unanswered) questions about its health: "
            + condition.detail,
          remedy:
            "Look whether its process runs, and at its log. One that runs and does not answer hangs: end it with "
            + "kill -9; its supervisor starts it again, and nothing acknowledged is lost.",
          labels: ["service": service], subject: service),
        salt: salt, now: now)
      self.set(
        condition.state == .notServing,
        Alert(
          name: Self.notServingAlert, severity: .critical,
          summary: "\(service) says that it cannot do its work: \(condition.detail)",
          remedy: "Look at its disk and its log. It serves again by itself once the part works.",
          labels: ["service": service], subject: service),
        salt: salt, now: now)
    }
  }
}
