import Logging
package import Schemas

/// Brings filed trials to ingest: publishes each once, and sends it by RPC where no acknowledgement comes.
///
/// A trial leaves the spool only by ingest's word that it is durable, so it may arrive twice and is never lost.
package actor Delivery {
  package struct Configuration: Sendable {
    /// Time that ingest has to acknowledge a published trial before it is uploaded.
    package var acknowledgementTimeout: Duration = .seconds(3)
    /// Time for one upload.
    package var uploadTimeout: Duration = .seconds(20)
    package var firstPause: Duration = .seconds(1)
    package var longestPause: Duration = .seconds(60)

    package init() {}
  }

  private struct Progress {
    /// When the trial is to be uploaded; a published one waits for its acknowledgement first.
    var uploadAt: ContinuousClock.Instant
    var backoff: Backoff
    /// What ingest misses; empty for all of it.
    var missing: [EventRange] = []
  }

  private let robot: Robot
  private let configuration: Configuration
  private let publish: @Sendable (TrialEvent) async throws -> Void
  private let upload: @Sendable ([TrialEvent]) async throws -> TrialAcknowledgement
  private var progress: [String: Progress] = [:]
  private var transport: Backoff
  private var blockedUntil = ContinuousClock.now

  /// - Parameters:
  ///   - publish: puts one event on the robot's topic; may lose it.
  ///   - upload: sends events by RPC and returns ingest's word.
  package init(
    robot: Robot, configuration: Configuration = .init(),
    publish: @escaping @Sendable (TrialEvent) async throws -> Void,
    upload: @escaping @Sendable ([TrialEvent]) async throws -> TrialAcknowledgement
  ) {
    self.robot = robot
    self.configuration = configuration
    self.publish = publish
    self.upload = upload
    self.transport = Backoff(first: configuration.firstPause, longest: configuration.longestPause)
  }

  /// Works until cancelled.
  package func run() async {
    while !Task.isCancelled {
      let seen = self.robot.spool.changed.changes
      await self.pass()
      await self.robot.spool.changed.wait(beyond: seen, atMost: self.nextDue())
    }
  }

  /// Ingest's word on one trial.
  package func hear(_ acknowledgement: TrialAcknowledgement) async {
    guard acknowledgement.robot == self.robot.name else { return }
    let trialID = acknowledgement.trialID
    switch acknowledgement.state {
    case .stored, .duplicate, .quarantined:
      self.progress[trialID] = nil
      if await self.robot.spool.remove(trialID), acknowledgement.state == .quarantined {
        self.robot.logger.notice(
          "trial quarantined",
          metadata: [
            "trial.id": "\(trialID)", "trial.reasons": "\(acknowledgement.reasons.joined(separator: "; "))",
          ])
      }
    case .incomplete:
      guard self.progress[trialID] != nil else { return }
      self.progress[trialID]?.missing = acknowledgement.missing
      self.progress[trialID]?.uploadAt = .now
      self.robot.spool.changed.notify()
    case .refused:
      self.progress[trialID] = nil
      let reason = acknowledgement.reasons.joined(separator: "; ")
      self.robot.logger.error(
        "trial refused", metadata: ["trial.id": "\(trialID)", "trial.reasons": "\(reason)"])
      await self.putAside(trialID, reason: reason)
    case .unspecified, .unrecognized:
      self.robot.logger.warning("acknowledgement not understood", metadata: ["trial.id": "\(trialID)"])
    }
  }

  private func pass() async {
    let pending = await self.robot.spool.pending
    let ids = Set(pending.map(\.trialID))
    self.progress = self.progress.filter { ids.contains($0.key) }
    for entry in pending where self.progress[entry.trialID] == nil { await self.publishOnce(entry.trialID) }
    for entry in pending {
      guard !Task.isCancelled, self.blockedUntil <= .now else { return }
      guard let progress = self.progress[entry.trialID], progress.uploadAt <= .now else { continue }
      await self.uploadOnce(entry.trialID, progress)
    }
  }

  private func publishOnce(_ trialID: String) async {
    guard await self.robot.spool.announce(trialID) else {
      // Published under another link or by an earlier agent.
      self.progress[trialID] = self.fresh(uploadAt: .now)
      return
    }
    // Set first: the acknowledgement may come while the last event is on its way.
    self.progress[trialID] = self.fresh(uploadAt: .now + self.configuration.acknowledgementTimeout)
    guard let events = await self.events(of: trialID) else { return }
    do {
      for event in events { try await self.publish(event) }
    } catch {
      // Uploading it a little later makes up for it.
      self.robot.logger.debug(
        "trial not published", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
    }
  }

  private func uploadOnce(_ trialID: String, _ progress: Progress) async {
    guard var events = await self.events(of: trialID) else { return }
    if !progress.missing.isEmpty {
      let missing = events.filter { event in
        progress.missing.contains { ($0.first...max($0.first, $0.last)).contains(event.number) }
      }
      if !missing.isEmpty { events = missing }
    }
    var backoff = progress.backoff
    do {
      let acknowledgement = try await self.upload(events)
      self.transport.reset()
      // A second INCOMPLETE asks for what this answer names, but not at once: ingest may be at fault.
      self.progress[trialID]?.uploadAt = .now + backoff.next()
      self.progress[trialID]?.backoff = backoff
      self.progress[trialID]?.missing = []
      if acknowledgement.state != .incomplete {
        await self.hear(acknowledgement)
      } else {
        self.progress[trialID]?.missing = acknowledgement.missing
      }
    } catch {
      guard !Task.isCancelled else { return }
      let pause = self.transport.next()
      self.blockedUntil = .now + pause
      self.robot.logger.info(
        "upload failed", metadata: ["trial.id": "\(trialID)", "retry.after": "\(pause)", "error": "\(error)"])
    }
  }

  private func events(of trialID: String) async -> [TrialEvent]? {
    do {
      return try await self.robot.spool.events(of: trialID)
    } catch {
      // Sending it again will not repair it.
      self.robot.logger.error(
        "spooled trial unreadable", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
      self.progress[trialID] = nil
      await self.putAside(trialID, reason: "\(error)")
      return nil
    }
  }

  private func putAside(_ trialID: String, reason: String) async {
    do { try await self.robot.spool.refuse(trialID, reason: reason) } catch {
      self.robot.logger.error(
        "trial not moved aside", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
    }
  }

  private func fresh(uploadAt: ContinuousClock.Instant) -> Progress {
    Progress(
      uploadAt: uploadAt,
      backoff: Backoff(first: self.configuration.firstPause, longest: self.configuration.longestPause))
  }

  private func nextDue() -> Duration {
    let due = self.progress.values.map(\.uploadAt).min() ?? .now + .seconds(60)
    return max(max(due, self.blockedUntil) - .now, .milliseconds(10))
  }
}
