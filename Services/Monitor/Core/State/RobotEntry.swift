package import Schemas

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

  /// Takes the robot out of the work or lets it back.
  ///
  /// Generations follow the clock as well: directives stay newer than what robots know even where this database was lost.
  mutating func set(healthy: Bool, reason: String, now: Int64) {
    self.isHealthy = healthy
    self.reason = reason
    if healthy { self.consecutiveFailures = 0 }
    self.healthGeneration = max(self.healthGeneration + 1, UInt64(max(0, now)) / 1_000_000)
  }

  package var directive: HealthDirective {
    HealthDirective(
      robot: self.name, healthy: self.isHealthy, reason: self.reason, generation: self.healthGeneration)
  }
}

/// What a robot said last; gone with the process.
package struct RobotPresence: Sendable, Hashable {
  package var heartbeat: Heartbeat?
  /// Of the last heartbeat, or of the start of this process.
  package var seenUnixNanos: Int64
  package var isOffline = false

  package init(seenUnixNanos: Int64) { self.seenUnixNanos = seenUnixNanos }
}
