import Logging
import Schemas

extension Robot {
  /// Does what the monitor says about this robot's health, once: the monitor repeats itself every second.
  func follow(_ directive: HealthDirective) async {
    // What was held is on the disk before the robot may work: the next agent would not hold it.
    if directive.healthy, self.condition.isUnhealthy { await self.queue.keep() }
    guard self.condition.follow(directive) else { return }
    await self.keepStandstill()
    if directive.healthy {
      self.vitals.forgetFailures()
      // Nobody said to go on with what waited when it was found unhealthy.
      await self.queue.resume(continuing: false, after: self.condition.standstills)
    } else {
      self.logger.warning("robot is out of the work", metadata: ["health.reason": "\(directive.reason)"])
      await self.queue.keep()
    }
  }
}
