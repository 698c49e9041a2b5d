import Logging
import Schemas

extension Robot {
  /// Does what the monitor says about this robot's health, once: the monitor repeats itself every second.
  func follow(_ directive: HealthDirective) async {
    guard self.condition.follow(directive) else { return }
    if directive.healthy {
      self.vitals.forgetFailures()
      // Nobody said to go on with what waited when it was found unhealthy.
      await self.queue.resume(continuing: false) { self.condition.obstacle }
    } else {
      self.logger.warning("robot is out of the work", metadata: ["health.reason": "\(directive.reason)"])
      await self.queue.hold()
    }
  }
}
