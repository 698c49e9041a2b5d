package import Logging
package import Schemas
package import Storage

/// Brings the robot to the version that the fleet desires, and says which one it acts with.
package struct VersionFollower: Sendable {
  /// Makes what is desired ready to act: from the robot's own disk, or fetched, verified and kept.
  package typealias Install =
    @Sendable (_ desired: DesiredVersion, VersionMemory) async throws -> ModelKeeper.Installed
  /// Returns once the memory is on the disk.
  package typealias Remember = @Sendable (VersionMemory) async throws -> Void
  package typealias Report = @Sendable (ReportVersionRequest) async throws -> DesiredVersion

  private let robot: String
  private let model: HeldModel
  private let trials: TrialSlot
  private let interval: Duration
  private let runtime: Runtime
  private let logger: Logger
  private let install: Install
  private let remember: Remember
  private let report: Report

  /// - Parameters:
  ///   - robot: its name.
  ///   - interval: time between reports when nothing changes.
  package init(
    robot: String, model: HeldModel, trials: TrialSlot, interval: Duration, runtime: Runtime = .system,
    logger: Logger, install: @escaping Install, remember: @escaping Remember, report: @escaping Report
  ) {
    self.robot = robot
    self.model = model
    self.trials = trials
    self.interval = interval
    self.runtime = runtime
    self.logger = logger
    self.install = install
    self.remember = remember
    self.report = report
  }

  /// Works until cancelled. A version that cannot be installed is tried again with pauses; the robot goes on with the one it has.
  package func run() async {
    var backoff = Backoff(first: .seconds(1), longest: .seconds(60), runtime: self.runtime)
    var failed = DesiredVersion()
    var (retryAt, remembered) = (self.runtime.now(), VersionMemory?.none)
    while !Task.isCancelled {
      let seen = self.model.changed.changes
      let ended = self.trials.changed.changes
      let desired = self.model.desired
      if desired != failed { backoff.reset() }
      await self.keep(&remembered)
      // The wish may have changed while this was written.
      if desired.remove, self.model.current != nil, self.model.desired == desired {
        self.logger.notice("model given up, as ordered", metadata: ["release.id": "\(desired.releaseID)"])
        self.model.install(nil)
      } else if !self.isHeld(desired), desired != failed || self.runtime.now() >= retryAt {
        if await self.tryInstall(desired) {
          failed = DesiredVersion()
        } else {
          failed = desired
          retryAt = self.runtime.now() + backoff.next()
        }
      }
      await self.keep(&remembered)
      if let answer = await self.tell() { self.model.desire(answer, from: .answer) }
      guard self.model.changed.changes == seen else { continue }
      let pause =
        failed == self.model.desired && failed.generation > 0
        ? min(self.interval, max(.zero, retryAt - self.runtime.now())) : self.interval
      if self.isWaitingForTrial {
        // Reported at once when the trial that still acts with the old version ends.
        await self.trials.changed.wait(beyond: ended, atMost: pause)
      } else {
        await self.model.changed.wait(beyond: seen, atMost: pause)
      }
    }
  }

  /// Writes what is new to remember. A disk that is full keeps no robot on a version that the fleet gave up.
  private func keep(_ remembered: inout VersionMemory?) async {
    let memory = self.model.memory
    guard memory != remembered, !Task.isCancelled else { return }
    do {
      try await self.remember(memory)
      remembered = memory
    } catch {
      self.logger.error("desired version not remembered", metadata: ["error": "\(error)"])
    }
  }

  /// Whether nothing is to be installed.
  private func isHeld(_ desired: DesiredVersion) -> Bool {
    guard !desired.version.isEmpty else { return true }
    guard let held = self.model.installed, held.policy.version == desired.version else { return false }
    return desired.manifestSha256.isEmpty || held.sha256.isEmpty || held.sha256 == desired.manifestSha256
  }

  /// Version that the robot acts with: a running trial keeps the one that it began with.
  private var actingVersion: String {
    self.trials.current?.modelVersion ?? self.model.current?.version ?? ""
  }

  private var isWaitingForTrial: Bool { self.actingVersion != (self.model.current?.version ?? "") }

  private func tryInstall(_ desired: DesiredVersion) async -> Bool {
    do {
      let installed = try await self.install(desired, self.model.memory)
      // The wish may have changed while the model was on its way.
      guard self.model.desired == desired else { return true }
      self.model.install(installed)
      self.logger.info("model installed", metadata: ["model.version": "\(desired.version)"])
      return true
    } catch {
      guard !Task.isCancelled else { return false }
      self.model.refuse("\(error)", for: desired)
      self.logger.error(
        "model not installed", metadata: ["model.version": "\(desired.version)", "error": "\(error)"])
      return false
    }
  }

  private func tell() async -> DesiredVersion? {
    let following = self.model.desired
    let request = ReportVersionRequest(
      robot: self.robot, version: self.actingVersion, error: self.model.installError,
      following: following.generation > 0 ? following : nil,
      manifestSha256: self.isWaitingForTrial ? [] : self.model.installed?.sha256 ?? [])
    return try? await self.report(request)
  }
}
