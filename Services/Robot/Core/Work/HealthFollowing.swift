import Logging
import Schemas

extension Robot {
  /// Does what the monitor says about this robot's health, once: the monitor repeats itself every second. Waits for the disk no
  /// longer than ``stop(reason:)`` does: the next directive may be the one to stand still.
  func follow(_ directive: HealthDirective) async {
    let deadline = self.deadline
    // What was held is on the disk before the robot may work: the next agent would hold more than this one.
    if directive.healthy, self.condition.isUnhealthy {
      await self.aside(until: deadline) { await self.queue.keep() }
    }
    guard self.condition.follow(directive) else { return }
    if directive.healthy {
      self.vitals.forgetFailures()
    } else {
      self.logger.warning("robot is out of the work", metadata: ["health.reason": "\(directive.reason)"])
    }
    let standstills = self.condition.standstills
    await self.aside(until: deadline) {
      await self.condition.keep()
      if directive.healthy {
        // Nobody said to go on with what waited when it was found unhealthy.
        await self.queue.resume(continuing: false, after: standstills)
      } else {
        await self.queue.keep()
      }
    }
  }
}
