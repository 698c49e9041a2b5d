import Artifacts
package import Bus
import GRPCCore
package import Logging
import Schemas
package import ServiceKit
import ServiceLifecycle
package import Storage

/// A robot's agent without its server: over the best link it delivers trials, follows versions and health, and tells
/// how the robot is.
package struct RobotAgent: Service {
  /// Security for connecting to a service by its name, e.g. "ingest".
  package typealias Security = @Sendable (_ service: String) throws -> ClientSecurity

  private static let probeTimeout: Duration = .seconds(2)

  package let robot: Robot
  private let settings: AgentSettings
  private let security: Security
  private let models: ModelKeeper
  private let metrics: MetricsRegistry
  private let lock: FolderLock

  /// Opens what is on the disk and takes up the last good model.
  /// - Parameter disk: where everything is kept.
  /// - Throws: ``RobotError`` where the folder cannot be used; `StorageError` `.inUse` where another agent uses it; what
  ///   `security` throws.
  package init(
    _ settings: AgentSettings, security: @escaping Security, load: @escaping ModelKeeper.Load,
    metrics: MetricsRegistry, logger: Logger, disk: any Disk = SystemDisk()
  ) async throws {
    self.settings = settings
    self.security = security
    self.metrics = metrics
    // Keys that are missing are told at the start, not at the first connection.
    for service in ["ingest", "inference", "monitor", "rollout"] { _ = try security(service) }
    self.lock = try FolderLock(folder: settings.robot.folder, owner: "robot agent")
    self.robot = try Robot(settings.robot, disk: disk, logger: logger)
    let (keys, serial) = (settings.trustedKeys, settings.minimumSerial)
    self.models = try ModelKeeper(
      folder: "\(settings.robot.folder)/models", disk: self.robot.disk, runtime: self.robot.runtime,
      leftovers: self.robot.leftovers,
      trust: { try ModelTrust(path: keys, minimumSerial: serial) }, load: load)
    let (memory, damage) = await self.models.recall()
    if let damage { self.robot.report(safety: "versions-lost", trialID: "", detail: damage) }
    self.robot.model.restore(memory, await self.models.lastGood(memory))
  }

  /// Works until the process is told to end; then nobody gets work any more, and the running trial is filed as aborted.
  package func run() async throws {
    let chooser = LinkChooser(
      links: self.settings.links, interval: self.settings.linkInterval, runtime: self.robot.runtime,
      logger: self.robot.logger, probe: self.answers, work: self.work)
    try await withGracefulShutdownHandler {
      try await cancelWhenGracefulShutdown {
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await chooser.run() }
          group.addTask { try await self.countUp() }
          group.addTask { await self.robot.keepWriting() }
          // Without any service the agent still counts, and its robot works.
          try await group.waitForAll()
        }
      }
    } onGracefulShutdown: {
      self.robot.drain()
    }
  }

  private func work(_ link: Link) async throws {
    let session = try LinkSession(
      robot: self.robot, link: link, security: self.security, models: self.models, settings: self.settings)
    try await session.run()
  }

  /// Whether the fleet answers over a link.
  private func answers(_ link: Link) async -> Bool {
    let known = [
      ("ingest", link.endpoints.ingestRPC), ("rollout", link.endpoints.rolloutRPC),
      ("inference", link.endpoints.inferenceRPC),
    ]
    guard let (service, endpoint) = known.lazy.compactMap({ name, at in at.map { (name, $0) } }).first else {
      return true
    }
    do {
      let transport = try ZeroMQClientTransport(connect: endpoint, security: self.security(service))
      return try await withGRPCClient(transport: transport) { client in
        _ = try await Health.Client(wrapping: client).check(
          HealthCheckRequest(), options: .within(Self.probeTimeout))
        return true
      }
    } catch {
      return false
    }
  }

  private func countUp() async throws {
    while true {
      let heartbeat = self.robot.heartbeat()
      self.metrics.set(
        "robot_spooled_trials", to: Double(heartbeat.spooledTrials),
        help: "Trials that ingest has not acknowledged.")
      self.metrics.set("robot_spooled_bytes", to: Double(heartbeat.spooledBytes))
      self.metrics.set("robot_steps", to: Double(heartbeat.steps), help: "Steps since start.")
      self.metrics.set(
        "robot_fallback_steps", to: Double(heartbeat.fallbackSteps),
        help: "Steps on which inference was to act and did not.")
      self.metrics.set(
        "robot_action_seconds", to: heartbeat.actionP50Micros / 1e6, labels: ["quantile": "0.5"],
        help: "Time from observation to action over the last minute.")
      self.metrics.set(
        "robot_action_seconds", to: heartbeat.actionP99Micros / 1e6, labels: ["quantile": "0.99"])
      self.metrics.set(
        "robot_telemetry_dropped", to: Double(self.robot.telemetry.dropped + self.robot.safety.dropped),
        help: "Events for the monitor that nobody took away before too many waited, since start.")
      try await self.robot.runtime.sleep(for: .seconds(1))
    }
  }
}
