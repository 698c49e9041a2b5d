import GRPCCore
package import Logging
package import Schemas
package import Storage

/// Brings filed trials to ingest: publishes each once, and uploads it, whole, where no acknowledgement comes.
///
/// A trial leaves the spool only by ingest's word that it is durable, so it may arrive twice and is never lost. Each trial
/// has pauses of its own: one that cannot go up holds up none behind it.
package actor Delivery {
  package struct Configuration: Sendable {
    /// Time that ingest has to acknowledge a published trial before it is uploaded.
    package var acknowledgementTimeout: Duration = .seconds(3)
    /// Time in which an upload must get on by an event, or be answered.
    package var uploadPatience: Duration = .seconds(60)
    /// Uploads at one time: a slow one leaves room for others. Each holds its trial in memory.
    package var uploadsAtOnce = 3
    /// Pauses of one trial between its uploads.
    package var firstPause: Duration = .seconds(1)
    package var longestPause: Duration = .seconds(60)
    /// Pause of all uploads while ingest cannot be reached.
    package var longestLinkPause: Duration = .seconds(15)

    package init() {}
  }

  /// Puts one encoded event on the robot's topic; may lose it.
  package typealias Publish = @Sendable (_ event: [UInt8]) async throws -> Void
  /// Sends a whole trial by RPC, and tells the watch of each event that went; returns ingest's word.
  package typealias Upload =
    @Sendable (_ events: [TrialEvent], _ watch: ProgressWatch) async throws -> TrialAcknowledgement
  /// Hears of a filed trial that cannot be read any more, or that ingest refuses, once it was set aside.
  package typealias Lost = @Sendable (_ trialID: String, _ path: String, _ why: String) -> Void

  private struct Course {
    let ordinal: UInt64
    /// When the trial is to be uploaded; a published one waits for its acknowledgement first.
    var uploadAt: ContinuousClock.Instant
    var backoff: Backoff
    var wasUploaded = false
    /// Times in a row that the disk did not let it be read.
    var failedReads = 0
  }

  /// Tries to read a trial, over some minutes, before it is set aside: a disk that refuses may do better later. While it lets
  /// nothing else be read either, none is.
  static let readAttempts = 8

  private let robot: String
  private let spool: Spool
  private let configuration: Configuration
  private let runtime: Runtime
  private let logger: Logger
  private let publish: Publish
  private let lost: Lost
  private let upload: Upload
  private var courses: [String: Course] = [:]
  private var unpublished: [String] = []
  private var isPublishing = false
  private var uploading: Set<String> = []
  private var link: Backoff
  private var blockedUntil: ContinuousClock.Instant

  /// - Parameter robot: the robot's name; acknowledgements to others are left alone.
  package init(
    robot: String, spool: Spool, configuration: Configuration = .init(), runtime: Runtime = .system,
    logger: Logger, publish: @escaping Publish, lost: @escaping Lost, upload: @escaping Upload
  ) {
    self.robot = robot
    self.spool = spool
    self.configuration = configuration
    self.runtime = runtime
    self.logger = logger
    self.publish = publish
    self.lost = lost
    self.upload = upload
    self.link = Backoff(
      first: configuration.firstPause, longest: configuration.longestLinkPause, runtime: runtime)
    self.blockedUntil = runtime.now()
  }

  /// Works until cancelled.
  package func run() async {
    await withDiscardingTaskGroup { group in
      while !Task.isCancelled {
        let seen = self.spool.changed.changes
        await self.takeUp()
        if !self.isPublishing, !self.unpublished.isEmpty {
          self.isPublishing = true
          group.addTask { await self.publishAll() }
        }
        while let trialID = self.takeDue() { group.addTask { await self.uploadOnce(trialID) } }
        await self.spool.changed.wait(beyond: seen, atMost: self.untilDue())
      }
      group.cancelAll()
    }
  }

  /// Ingest's word on one trial.
  package func hear(_ acknowledgement: TrialAcknowledgement) async {
    guard acknowledgement.robot == self.robot else { return }
    // It can be reached.
    self.link.reset()
    self.blockedUntil = self.runtime.now()
    let trialID = acknowledgement.trialID
    let reasons = acknowledgement.reasons.joined(separator: "; ")
    switch acknowledgement.state {
    case .stored, .duplicate, .quarantined:
      self.courses[trialID] = nil
      if await self.spool.remove(trialID), acknowledgement.state == .quarantined {
        self.logger.notice(
          "trial quarantined", metadata: ["trial.id": "\(trialID)", "trial.reasons": "\(reasons)"])
      }
    case .incomplete:
      // Only a first upload follows at once: where that did not help, ingest may be at fault, and pauses are due.
      guard let course = self.courses[trialID], !course.wasUploaded else { return }
      self.courses[trialID]?.uploadAt = self.runtime.now()
      self.spool.changed.notify()
    case .refused:
      self.logger.error("trial refused", metadata: ["trial.id": "\(trialID)", "trial.reasons": "\(reasons)"])
      let reason = "Ingest refuses it: \(reasons)"
      if let path = await self.putAside(trialID, reason: reason) {
        self.lost(trialID, path, reason)
      }
    case .unspecified, .unrecognized:
      self.logger.warning("acknowledgement not understood", metadata: ["trial.id": "\(trialID)"])
    }
  }

  // MARK: What is due

  /// Follows the spool.
  private func takeUp() async {
    let pending = await self.spool.pending
    let ids = Set(pending.map(\.trialID))
    self.courses = self.courses.filter { ids.contains($0.key) }
    for entry in pending where self.courses[entry.trialID] == nil {
      // One that was published under another link or by an earlier agent has waited long enough.
      let isFresh = await self.spool.announce(entry.trialID)
      let wait = isFresh ? self.configuration.acknowledgementTimeout : .zero
      self.courses[entry.trialID] = Course(
        ordinal: entry.ordinal, uploadAt: self.runtime.now() + wait,
        backoff: Backoff(
          first: self.configuration.firstPause, longest: self.configuration.longestPause,
          runtime: self.runtime))
      if isFresh { self.unpublished.append(entry.trialID) }
    }
  }

  /// The trial that is to be uploaded now: that which is due for longest, the oldest of those; nil where none is.
  private func takeDue() -> String? {
    let now = self.runtime.now()
    guard self.uploading.count < self.configuration.uploadsAtOnce, self.blockedUntil <= now else {
      return nil
    }
    let due = self.courses.filter { $0.value.uploadAt <= now && !self.uploading.contains($0.key) }
    let first = due.min { ($0.value.uploadAt, $0.value.ordinal) < ($1.value.uploadAt, $1.value.ordinal) }
    guard let first else { return nil }
    self.uploading.insert(first.key)
    self.courses[first.key]?.wasUploaded = true
    return first.key
  }

  /// The end of an upload and of the publication of a trial wake the loop, too.
  private func untilDue() -> Duration {
    let now = self.runtime.now()
    guard self.uploading.count < self.configuration.uploadsAtOnce else { return .seconds(60) }
    let due = self.courses.lazy.filter { !self.uploading.contains($0.key) }.map(\.value.uploadAt).min()
    return max(max(due ?? now + .seconds(60), self.blockedUntil) - now, .milliseconds(1))
  }

  private func postpone(_ trialID: String) {
    guard var course = self.courses[trialID] else { return }
    course.uploadAt = self.runtime.now() + course.backoff.next()
    self.courses[trialID] = course
  }

  // MARK: Sending

  private func publishAll() async {
    while !Task.isCancelled, !self.unpublished.isEmpty {
      let trialID = self.unpublished.removeFirst()
      do {
        for event in try await self.spool.messages(of: trialID) ?? [] { try await self.publish(event) }
      } catch {
        // Uploading it a little later makes up for it.
        self.logger.debug("trial not published", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
      }
    }
    self.isPublishing = false
  }

  private func uploadOnce(_ trialID: String) async {
    defer {
      self.uploading.remove(trialID)
      self.spool.changed.notify()
    }
    guard let events = await self.events(of: trialID) else { return }
    let upload = self.upload
    do {
      let acknowledgement = try await withProgressDeadline(
        self.configuration.uploadPatience, runtime: self.runtime, "The upload of trial \(trialID)"
      ) { try await upload(events, $0) }
      // What ingest says now may leave the trial here, whatever it is.
      self.postpone(trialID)
      if acknowledgement.state == .incomplete {
        self.logger.info(
          "trial not stored",
          metadata: [
            "trial.id": "\(trialID)", "trial.reasons": "\(acknowledgement.reasons.joined(separator: "; "))",
          ])
      }
      await self.hear(acknowledgement)
    } catch {
      guard !Task.isCancelled else { return }
      self.logger.info("upload failed", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
      self.postpone(trialID)
      if (error as? RPCError)?.code == .unavailable { self.block() }
    }
  }

  /// Ingest cannot be reached: every upload would fail. The trial that was tried has its own pause, so that the next try
  /// is another's.
  private func block() {
    guard self.blockedUntil <= self.runtime.now() else { return }
    self.blockedUntil = self.runtime.now() + self.link.next()
  }

  private func events(of trialID: String) async -> [TrialEvent]? {
    do {
      let events = try await self.spool.events(of: trialID)
      self.courses[trialID]?.failedReads = 0
      return events
    } catch {
      self.logger.error(
        "spooled trial unreadable", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
      // What is damaged or gone stays so, however often it is read.
      var isForEver = error.code == .damaged
      if !isForEver, await self.isGivenUp(trialID) {
        // The disk may have come back between the two.
        if let events = try? await self.spool.events(of: trialID) {
          self.courses[trialID]?.failedReads = 0
          return events
        }
        isForEver = true
      }
      if isForEver { await self.lose(trialID, because: error) } else { self.postpone(trialID) }
      return nil
    }
  }

  private func lose(_ trialID: String, because error: RobotError) async {
    guard let path = await self.putAside(trialID, reason: error.message) else { return }
    self.lost(trialID, path, error.message)
  }

  /// Counts a read that failed.
  /// - Returns: whether it is the trial that cannot be read, and not the disk that lets nothing be read.
  private func isGivenUp(_ trialID: String) async -> Bool {
    let failedReads = (self.courses[trialID]?.failedReads ?? 0) + 1
    self.courses[trialID]?.failedReads = failedReads
    guard failedReads >= Self.readAttempts else { return false }
    return await self.spool.canReadBesides(trialID)
  }

  /// - Returns: where it lies now; nil where it is here no more, or where the disk does not let it be moved and it is tried again
  ///   later.
  private func putAside(_ trialID: String, reason: String) async -> String? {
    do {
      let path = try await self.spool.refuse(trialID, reason: reason)
      self.courses[trialID] = nil
      return path
    } catch {
      self.logger.error("trial not moved aside", metadata: ["trial.id": "\(trialID)", "error": "\(error)"])
      self.postpone(trialID)
      return nil
    }
  }
}
