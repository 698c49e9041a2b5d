import Logging
import Schemas

extension Robot {
  /// Does what the monitor says about this robot's health.
  func follow(_ directive: HealthDirective) async {
    do {
      let fell = try self.condition.follow(directive)
      if directive.healthy { self.vitals.forgetFailures() }
      if fell {
        self.logger.warning("robot is out of the work", metadata: ["health.reason": "\(directive.reason)"])
        try await self.queue.cancel()
      }
      self.queue.reconsider()
    } catch {
      self.logger.error("health directive not kept", metadata: ["error": "\(error)"])
    }
  }
}
