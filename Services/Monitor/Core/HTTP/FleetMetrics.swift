import Schemas
import ServiceKit

extension StatusReport {
  /// Sets the gauges that describe the fleet; what the process counts by itself is in the registry already.
  func record(in metrics: MetricsRegistry) {
    for state in ["idle", "working", "unhealthy", "stopped", "offline", "unknown"] {
      metrics.set(
        "robots", to: Double(self.robotsByState[state] ?? 0), labels: ["state": state],
        help: "Robots by state.")
    }
    for robot in self.robots {
      metrics.set(
        "robot_consecutive_failures", to: Double(robot.consecutiveFailures),
        labels: ["robot": robot.robot], help: "Failures since the robot's last success or resume.")
      metrics.set(
        "robot_spooled_trials", to: Double(robot.spooled), labels: ["robot": robot.robot],
        help: "Trials that nobody acknowledged yet.")
      metrics.set(
        "robot_action_p99_seconds", to: robot.actionP99Millis / 1_000,
        labels: ["robot": robot.robot], help: "Time from observation to action over the last minute.")
    }
    metrics.set(
      "safety_events_dropped", to: Double(self.droppedEvents),
      help: "Safety events of robots that the monitor has no room to know, since its start.")
    for version in self.versions {
      metrics.set(
        "trials", to: Double(version.total.trials), labels: ["version": version.version],
        help: "Stored trials with a policy, aborted ones not counted.")
      metrics.set(
        "successes", to: Double(version.total.successes), labels: ["version": version.version],
        help: "Stored trials with a policy that succeeded.")
    }
    for service in self.services {
      metrics.set(
        "service_serving", to: service.state == "serving" ? 1 : 0, labels: ["name": service.service],
        help: "Whether the service answers in time, and says that it can do its work.")
    }
    for severity in ["info", "warning", "critical"] {
      metrics.set(
        "alerts_open", to: Double(self.openAlerts[severity] ?? 0),
        labels: ["severity": severity], help: "Open alerts.")
    }
  }
}
