import Schemas

/// Which robots lose the work that they have. A value: what the monitor says and the time are passed in.
struct SilentRobots: Sendable {
  /// Time for which the monitor must not have heard of a robot: one that was started anew hears of all of them again, and a link
  /// that is back soon brings the trials that were done meanwhile.
  static let patience: Duration = .seconds(15)

  /// What passes at most between two looks: where more went by, nobody looked, and that is no robot's silence.
  static let longestLook: Duration = .seconds(2)

  /// How long each was silent while somebody looked.
  private var silences: [String: Duration] = [:]
  private var lastLook: ContinuousClock.Instant?

  /// - Parameters:
  ///   - holders: robots that have work.
  ///   - states: what the monitor says of each that it knows.
  /// - Returns: those that do nothing of it: out of the work, or silent for longer than ``patience``.
  mutating func lost(
    _ holders: Set<String>, states: [String: RobotState], at now: ContinuousClock.Instant = .now
  ) -> Set<String> {
    let passed = min(Self.longestLook, now - (self.lastLook ?? now))
    self.lastLook = now
    self.silences = self.silences.filter { holders.contains($0.key) }
    return holders.filter { robot in
      switch states[robot] {
      case .idle, .working:
        self.silences[robot] = nil
        return false
      case .stopped, .unhealthy: return true
      case .offline, .unspecified, .unrecognized, nil:
        let silence = self.silences[robot].map { $0 + passed } ?? .zero
        self.silences[robot] = silence
        return silence > Self.patience
      }
    }
  }
}
