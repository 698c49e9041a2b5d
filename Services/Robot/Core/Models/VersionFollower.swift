import Logging
package import Schemas

/// Brings the robot to the version that the fleet desires, and says which one it acts with.
package struct VersionFollower: Sendable {
  /// Makes a version ready to act: from the robot's own disk, or fetched, verified and kept.
  package typealias Install = @Sendable (_ version: String) async throws -> any LocalPolicy
  package typealias Report = @Sendable (ReportVersionRequest) async throws -> DesiredVersion

  private let robot: Robot
  private let interval: Duration
  private let install: Install
  private let report: Report

  /// - Parameter interval: time between reports when nothing changes.
  package init(
    robot: Robot, interval: Duration, install: @escaping Install, report: @escaping Report
  ) {
    self.robot = robot
    self.interval = interval
    self.install = install
    self.report = report
  }

  /// Works until cancelled. A version that cannot be installed is tried again with pauses; the robot goes on with the one it has.
  package func run() async {
    var backoff = Backoff(first: .seconds(1), longest: .seconds(60))
    var failedGeneration: UInt64 = 0
    while !Task.isCancelled {
      let seen = self.robot.model.changed.changes
      let ended = self.robot.trials.changed.changes
      var pause = self.interval
      let desired = self.robot.model.desired
      if desired.version.isEmpty, desired.generation > 0, self.robot.model.current != nil {
        // The robot's first release was taken back: there was no model before it.
        self.robot.model.install(nil)
      } else if desired.version != (self.robot.model.current?.version ?? ""), !desired.version.isEmpty {
        if desired.generation != failedGeneration { backoff.reset() }
        if await !self.tryInstall(desired) {
          failedGeneration = desired.generation
          pause = min(pause, backoff.next())
        }
      }
      if let answer = await self.tell() { self.robot.model.desire(answer) }
      guard self.robot.model.changed.changes == seen else { continue }
      if self.isWaitingForTrial {
        // Reported at once when the trial that still acts with the old version ends.
        await self.robot.trials.changed.wait(beyond: ended, atMost: pause)
      } else {
        await self.robot.model.changed.wait(beyond: seen, atMost: pause)
      }
    }
  }

  private var isWaitingForTrial: Bool {
    self.robot.actingVersion != (self.robot.model.current?.version ?? "")
  }

  private func tryInstall(_ desired: DesiredVersion) async -> Bool {
    do {
      let policy = try await self.install(desired.version)
      // The wish may have changed while the model was on its way.
      guard self.robot.model.desired.version == desired.version else { return true }
      self.robot.model.install(policy)
      self.robot.logger.info("model installed", metadata: ["model.version": "\(desired.version)"])
      return true
    } catch {
      guard !Task.isCancelled else { return false }
      self.robot.model.refuse("\(error)")
      self.robot.logger.error(
        "model not installed", metadata: ["model.version": "\(desired.version)", "error": "\(error)"])
      return false
    }
  }

  private func tell() async -> DesiredVersion? {
    let request = ReportVersionRequest(
      robot: self.robot.name, version: self.robot.actingVersion,
      generation: self.robot.model.desired.generation, error: self.robot.model.installError)
    return try? await self.report(request)
  }
}
