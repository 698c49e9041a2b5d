package import Schemas
import ServiceKit

/// One robot as the monitor knows it, as far as that must outlive a restart.
package struct RobotEntry: Sendable, Hashable, Codable {
  /// Trials that are remembered, so that none is counted twice.
  static let remembered = 256

  package var name: String
  package var facility = ""
  /// Failures since the last success or resume; aborted trials neither count nor reset.
  package var consecutiveFailures = 0
  package var isHealthy = true
  /// Why it is out of the work.
  package var reason = ""
  /// Of the last health directive; 0 before the first.
  package var healthGeneration: UInt64 = 0
  /// Whether it ever sent a heartbeat: from then on a missing one means something.
  package var isExpected = false
  /// The last trials that were counted, oldest first.
  package var recentTrials: [String] = []
  /// Of the last starts of the robot's agent, newest last: how far its safety events were taken. Nil before the first, and in
  /// what an older monitor kept.
  package private(set) var eventSessions: [EventSession]?

  package struct EventSession: Sendable, Hashable, Codable {
    package var session: UInt64
    package var number: UInt64
  }

  /// Starts of an agent that are remembered. More than one: what an agent sent just before it was killed may come late.
  static let rememberedSessions = 4

  /// Whether nothing but safety events makes the monitor know it.
  var isStranger: Bool { !self.isExpected && self.recentTrials.isEmpty && self.healthGeneration == 0 }

  package init(name: String) { self.name = name }

  /// Counts one trial.
  /// - Returns: whether it was new.
  mutating func count(trialID: String, outcome: Outcome) -> Bool {
    guard !self.recentTrials.contains(trialID) else { return false }
    self.recentTrials.append(trialID)
    self.recentTrials.removeFirst(max(0, self.recentTrials.count - Self.remembered))
    switch outcome {
    case .success: self.consecutiveFailures = 0
    case .failure: self.consecutiveFailures += 1
    case .aborted, .unspecified, .unrecognized: break
    }
    return true
  }

  /// Takes note of an event.
  /// - Returns: whether it was new; one without a session always is.
  mutating func take(_ event: SafetyEvent) -> Bool {
    guard event.session != 0 else { return true }
    var sessions = self.eventSessions ?? []
    if let index = sessions.firstIndex(where: { $0.session == event.session }) {
      guard sessions[index].number < event.number else { return false }
      sessions[index].number = event.number
    } else {
      sessions.append(EventSession(session: event.session, number: event.number))
      sessions.removeFirst(max(0, sessions.count - Self.rememberedSessions))
    }
    self.eventSessions = sessions
    return true
  }

  /// Takes the robot out of the work or lets it back.
  ///
  /// Generations follow the clock as well: directives stay newer than what robots know even where this database was lost.
  mutating func set(healthy: Bool, reason: String, now: Int64) {
    self.isHealthy = healthy
    self.reason = reason
    if healthy { self.consecutiveFailures = 0 }
    let next = self.healthGeneration == .max ? .max : self.healthGeneration + 1
    self.healthGeneration = max(next, UInt64(max(0, now)) / 1_000_000)
  }

  package var directive: HealthDirective {
    HealthDirective(
      robot: self.name, healthy: self.isHealthy, reason: self.reason, generation: self.healthGeneration)
  }
}

/// What a robot said last; gone with the process.
package struct RobotPresence: Sendable, Hashable {
  package var heartbeat: Heartbeat?
  /// When the last heartbeat came, for people; Unix nanoseconds, 0 before the first.
  package var heardUnixNanos: Int64 = 0
  /// Of the last heartbeat, or of the first look for one: ``WatchClock/watched``.
  package var seen: Duration
  package var isOffline = false
  /// Since when it says that it is unhealthy although it is not: ``WatchClock/watched``.
  package var unheardSince: Duration?

  package init(seen: Duration) { self.seen = seen }
}

extension Heartbeat {
  /// Without more text than a row shows: what robots say is kept and told for each of them.
  var bounded: Heartbeat {
    var heartbeat = self
    for text in [\Heartbeat.facility, \.hardwareCohort, \.modelVersion, \.desiredVersion, \.link] {
      heartbeat[keyPath: text] = heartbeat[keyPath: text].firstScalars(100)
    }
    for text in [\Heartbeat.installError, \.stopReason, \.resumeReason, \.unkept] {
      heartbeat[keyPath: text] = heartbeat[keyPath: text].firstScalars(500)
    }
    return heartbeat
  }
}
