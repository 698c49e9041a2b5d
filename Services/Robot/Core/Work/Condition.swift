package import Schemas
import Synchronization

/// Whether this robot may work: a safety stop, which whoever stands beside the robot lifts, and the monitor's word on its
/// health, which the monitor lifts. Both outlive a restart.
package final class Condition: Sendable {
  private struct State: Codable {
    var stopReason: String?
    var unhealthyReason: String?
    var healthGeneration: UInt64 = 0
  }

  private let path: String
  private let state: Mutex<State>

  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(folder: String) throws {
    try DiskFolder.make(folder)
    self.path = "\(folder)/condition.json"
    self.state = Mutex(try DiskFolder.readJSON(State.self, self.path) ?? State())
  }

  /// Why the robot may not work; nil where it may.
  package var obstacle: String? {
    self.state.withLock { state in
      state.stopReason.map { "The robot is stopped: \($0). Resume it once it is safe." }
        ?? state.unhealthyReason.map {
          "The robot is unhealthy: \($0). Let the monitor resume it once it is repaired."
        }
    }
  }

  package var isUnhealthy: Bool { self.state.withLock { $0.unhealthyReason != nil } }

  /// What a heartbeat says. A stop is told first: it is the stronger one.
  package func robotState(working: Bool) -> RobotState {
    self.state.withLock { state in
      if state.stopReason != nil { return .stopped }
      if state.unhealthyReason != nil { return .unhealthy }
      return working ? .working : .idle
    }
  }

  package func stop(reason: String) throws(RobotError) {
    try self.change { $0.stopReason = reason.isEmpty ? "no reason given" : reason }
  }

  package func resume() throws(RobotError) {
    try self.change { $0.stopReason = nil }
  }

  /// Follows the monitor.
  /// - Returns: whether the robot became unhealthy by this directive. An older directive than the last is ignored.
  package func follow(_ directive: HealthDirective) throws(RobotError) -> Bool {
    guard directive.generation > self.state.withLock({ $0.healthGeneration }) else { return false }
    let was = self.isUnhealthy
    try self.change { state in
      state.healthGeneration = directive.generation
      let reason = directive.reason.isEmpty ? "no reason given" : directive.reason
      state.unhealthyReason = directive.healthy ? nil : reason
    }
    return !was && !directive.healthy
  }

  /// The change holds in memory even where the disk refuses it: a stop must stop.
  private func change(_ change: (inout State) -> Void) throws(RobotError) {
    let new = self.state.withLock { state in
      change(&state)
      return state
    }
    try DiskFolder.writeJSON(new, self.path)
  }
}
