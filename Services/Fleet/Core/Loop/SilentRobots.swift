import Schemas

/// Which robots lose the work that they have. A value: what the monitor says and the time are passed in.
struct SilentRobots: Sendable {
  /// Time for which the monitor must not have heard of a robot: one that was started anew hears of all of them again, and a link
  /// that is back soon brings the trials that were done meanwhile.
  static let patience: Duration = .seconds(15)

  private var since: [String: ContinuousClock.Instant] = [:]

  /// - Parameters:
  ///   - holders: robots that have work.
  ///   - states: what the monitor says of each that it knows.
  /// - Returns: those that do nothing of it: out of the work, or silent for longer than ``patience``.
  mutating func lost(
    _ holders: Set<String>, states: [String: RobotState], at now: ContinuousClock.Instant = .now
  ) -> Set<String> {
    self.since = self.since.filter { holders.contains($0.key) }
    return holders.filter { robot in
      switch states[robot] {
      case .idle, .working:
        self.since[robot] = nil
        return false
      case .stopped, .unhealthy: return true
      case .offline, .unspecified, .unrecognized, nil:
        let since = self.since[robot] ?? now
        self.since[robot] = since
        return now - since > Self.patience
      }
    }
  }
}
