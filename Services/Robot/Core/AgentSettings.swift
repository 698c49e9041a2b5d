import Schemas
package import ServiceKit
import Trials

/// What can be configured about a robot's agent.
package struct AgentSettings: Sendable {
  package static let name = Setting(
    "robot.name", default: "robot-1", help: "The robot's name: letters, digits, '.', '_', '-'.")
  package static let facility = Setting(
    "robot.facility", default: "", help: "Facility that the robot stands in.",
    allowed: "at most \(TrialLimits.textBytes) bytes", where: { $0.utf8.count <= TrialLimits.textBytes })
  package static let cohort = Setting(
    "robot.cohort", default: "", help: "Hardware cohort: robots of one cohort are built alike.",
    allowed: "at most \(TrialLimits.textBytes) bytes", where: { $0.utf8.count <= TrialLimits.textBytes })
  package static let folder = Setting(
    "robot.data", default: "data/robot", help: "Folder for spool, models and waiting work.")
  package static let links = Setting<[String]>(
    "robot.links", default: [],
    help:
      "Links as NAME=HOST, best first, e.g. wired=10.0.0.2,wifi=10.1.0.2,4g=fleet.example; HOST takes the place "
      + "of {link} in the endpoints. Empty: one link, endpoints as they are.")
  package static let linkSeconds = Setting(
    "robot.link-seconds", default: 5.0, help: "Seconds between looks for a better link.",
    allowed: "0.1 to 3600",
    where: { (0.1...3_600).contains($0) })
  package static let spoolBytes = Setting(
    "robot.spool-bytes", default: 2 << 30,
    help: "Bytes of unacknowledged trials above which no new one begins.",
    allowed: "at least 1", where: { $0 >= 1 })
  package static let trialBytes = Setting(
    "robot.trial-bytes", default: TrialLimits.bytes,
    help: "Bytes that one trial may take in the spool; ingest takes no larger one than the default.",
    allowed: "1 to \(TrialLimits.bytes)", where: { (1...TrialLimits.bytes).contains($0) })
  package static let reserveBytes = Setting(
    "robot.reserve-bytes", default: 64 << 20,
    help: "Bytes that must be free on the disk before a trial begins.",
    allowed: "at least 0", where: { $0 >= 0 })
  package static let budgetMillis = Setting(
    "robot.action-budget-ms", default: 100,
    help: "Time that inference has for an action before the local policy acts.", allowed: "1 to 60000",
    where: { (1...60_000).contains($0) })
  package static let chunkSteps = Setting(
    "robot.chunk-steps", default: 1, help: "Actions executed of each predicted chunk.", allowed: "1 to 1000",
    where: { (1...1_000).contains($0) })
  package static let maximumChange = Setting(
    "robot.maximum-change", default: 2.0,
    help: "Change of an action's component from step to step, at most; 2 is no bound.",
    allowed: "above 0, at most 2",
    where: { $0 > 0 && $0 <= 2 })
  package static let jointMargin = Setting(
    "robot.joint-margin", default: 0.1, help: "Radians beyond a joint's range at which the robot stops.",
    allowed: "0 to 3.15", where: { (0...3.15).contains($0) })
  package static let controlSeconds = Setting(
    "robot.control-seconds", default: 30.0,
    help: "Seconds without an observation that end a trial as aborted.",
    allowed: "1 to 3600", where: { (1...3_600).contains($0) })
  package static let heartbeatSeconds = Setting(
    "robot.heartbeat-seconds", default: 1.0, help: "Seconds between heartbeats.", allowed: "0.05 to 60",
    where: { (0.05...60).contains($0) })
  package static let reportSeconds = Setting(
    "robot.report-seconds", default: 3.0, help: "Seconds between reports of the version to rollout.",
    allowed: "0.05 to 600", where: { (0.05...600).contains($0) })
  package static let acknowledgementSeconds = Setting(
    "robot.acknowledgement-seconds", default: 3.0,
    help: "Seconds that ingest has to acknowledge a published trial before it is uploaded.",
    allowed: "0.05 to 600",
    where: { (0.05...600).contains($0) })
  package static let uploadSeconds = Setting(
    "robot.upload-seconds", default: 60.0,
    help: "Seconds in which an upload must get on by an event, or be answered.",
    allowed: "0.05 to 3600", where: { (0.05...3_600).contains($0) })
  package static let trustedKeys = Setting(
    "robot.trusted-keys", default: "",
    help: "Folder of the public keys whose signature makes a model acceptable; without it no model is.")
  package static let minimumSerial = Setting(
    "robot.minimum-serial", default: 0, help: "Models with a lower serial number are refused.",
    allowed: "at least 0",
    where: { $0 >= 0 })

  /// Those of the services that a robot talks to are shared with them.
  package static let all: [any AnySetting] = [
    Self.name, Self.facility, Self.cohort, Self.folder, Self.links, Self.linkSeconds, Self.spoolBytes,
    Self.trialBytes, Self.reserveBytes, Self.budgetMillis, Self.chunkSteps, Self.maximumChange,
    Self.jointMargin,
    Self.controlSeconds, Self.heartbeatSeconds, Self.reportSeconds, Self.acknowledgementSeconds,
    Self.uploadSeconds, Self.trustedKeys,
    Self.minimumSerial, EndpointSettings.robotRPC, EndpointSettings.ingestRPC, EndpointSettings.ingestTrials,
    EndpointSettings.ingestPublications, EndpointSettings.inferenceRPC, EndpointSettings.monitorRPC,
    EndpointSettings.monitorTelemetry, EndpointSettings.monitorPublications, EndpointSettings.rolloutRPC,
    EndpointSettings.rolloutPublications,
  ]

  package var robot: Robot.Configuration
  package var links: [Link]
  package var linkInterval: Duration = .seconds(5)
  package var heartbeatInterval: Duration = .seconds(1)
  package var reportInterval: Duration = .seconds(3)
  package var delivery = Delivery.Configuration()
  /// Time in which the transfer of a model must get on by a chunk.
  package var fetchPatience: Duration = .seconds(30)
  package var trustedKeys = ""
  package var minimumSerial: UInt64 = 0

  package init(robot: Robot.Configuration, links: [Link]) {
    self.robot = robot
    self.links = links
  }

  /// - Throws: ``ServiceError`` or ``RobotError`` `.invalidConfiguration`.
  package init(_ values: ServiceConfiguration) throws {
    let name = try values(Self.name)
    guard Names.isValid(name) else {
      throw RobotError(
        .invalidConfiguration,
        "robot.name is '\(name.prefix(100))'; it has \(Names.rule).")
    }
    var robot = Robot.Configuration(
      identity: RobotIdentity(
        name: name, facility: try values(Self.facility), cohort: try values(Self.cohort)),
      folder: try values(Self.folder))
    robot.spoolBytes = UInt64(try values(Self.spoolBytes))
    robot.trialBytes = UInt64(try values(Self.trialBytes))
    robot.reserveBytes = UInt64(try values(Self.reserveBytes))
    robot.actionBudget = .milliseconds(try values(Self.budgetMillis))
    robot.executedOfChunk = try values(Self.chunkSteps)
    let change = try values(Self.maximumChange)
    robot.limits = ActionLimits(
      maximumChange: change < 2 ? Float(change) : nil, jointMargin: Float(try values(Self.jointMargin)))
    robot.controlTimeout = .seconds(try values(Self.controlSeconds))
    let links = try Link.parse(
      try values(Self.links),
      templates: [
        (\.ingestRPC, try values(EndpointSettings.ingestRPC)),
        (\.ingestTrials, try values(EndpointSettings.ingestTrials)),
        (\.ingestPublications, try values(EndpointSettings.ingestPublications)),
        (\.inferenceRPC, try values(EndpointSettings.inferenceRPC)),
        (\.monitorRPC, try values(EndpointSettings.monitorRPC)),
        (\.monitorTelemetry, try values(EndpointSettings.monitorTelemetry)),
        (\.monitorPublications, try values(EndpointSettings.monitorPublications)),
        (\.rolloutRPC, try values(EndpointSettings.rolloutRPC)),
        (\.rolloutPublications, try values(EndpointSettings.rolloutPublications)),
      ])
    self.init(robot: robot, links: links)
    self.linkInterval = .seconds(try values(Self.linkSeconds))
    self.heartbeatInterval = .seconds(try values(Self.heartbeatSeconds))
    self.reportInterval = .seconds(try values(Self.reportSeconds))
    self.delivery.acknowledgementTimeout = .seconds(try values(Self.acknowledgementSeconds))
    self.delivery.uploadPatience = .seconds(try values(Self.uploadSeconds))
    self.trustedKeys = try values(Self.trustedKeys)
    self.minimumSerial = UInt64(try values(Self.minimumSerial))
  }
}
