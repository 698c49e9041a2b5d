import Logging
import Schemas
import Storage
import Synchronization

/// What a robot's disk lost, and what it refuses.
extension Robot {
  /// What the disk refuses, in sentences, the worst first; nil where it does all that it should. Each holds in memory, and is
  /// tried again.
  package var unkept: String? {
    let forgotten = "is not on the disk, and a restart may forget it"
    let sentences = [
      self.condition.unkept.map { "The last stop, resume or health directive \(forgotten): \($0)" },
      self.queue.unkept.map { "What became of the work orders \(forgotten): \($0)" },
      self.spool.unkept,
      self.safety.unkept.map { "What the monitor has to hear of \(forgotten): \($0)" },
      self.unanswered,
      self.leftovers.unkept,
    ]
    .compactMap { $0 }
    return sentences.isEmpty ? nil : sentences.joined(separator: " ")
  }

  /// What a control program waits for, in a sentence, where it has waited for long: the disk, as nothing else of an answer has no
  /// bound.
  private var unanswered: String? {
    let limit = self.configuration.controlTimeout
    guard self.streams.withLock({ $0.values.contains { $0.wait > limit } }) else { return nil }
    let trial = self.trials.current.map { "Trial \($0.trialID)" } ?? "A trial that is to begin"
    return "\(trial) has waited for the disk for over \(limit)."
  }

  /// What a caller waits for the disk, well within what operators wait for an answer.
  private static let patience: Duration = .seconds(2)

  /// Writes that the robot stands still, and what the monitor has to hear of it. Returns once the disk took or refused it, or did
  /// not answer within ``patience``: then the write goes on, and ``unkept`` says so.
  func keepStandstill() async {
    let written = Wakeup(runtime: self.runtime)
    let seen = written.changes
    Task(executorPreference: self.runtime.taskExecutor) {
      await self.condition.keep()
      if self.safety.unkept != nil { await self.safety.keepAside() }
      written.notify()
    }
    await written.wait(beyond: seen, atMost: Self.patience)
  }

  /// Does again what the disk refused, until it does it, and writes what a stop left for later. Works until cancelled.
  package func keepWriting() async {
    var backoff = Backoff(first: .milliseconds(500), longest: .seconds(10), runtime: self.runtime)
    var told: String?
    var toldOfWork: Set<String> = []
    while !Task.isCancelled {
      let why = self.unkept
      if let why, why != told { self.logger.error("the disk refuses", metadata: ["error": "\(why)"]) }
      told = why
      if self.safety.unkept != nil {
        await self.safety.keepAside()
      }
      // Whoever wrote them.
      self.settle()
      await self.condition.keep()
      for trial in await self.spool.fileStranded() {
        self.report(
          safety: Self.lostTrial, trialID: trial,
          detail: "\(trial), which waited to be filed: its file was gone when the disk worked again.")
      }
      await self.queue.keep()
      await self.tellOfWorkNeverBegun(but: &toldOfWork)
      self.leftovers.removeAgain()
      if why == nil { backoff.reset() }
      try? await self.runtime.sleep(for: backoff.next())
    }
  }

  /// Tells of orders that are held because nobody begins them, by this agent or one that ended before it had told.
  /// - Parameter told: orders of which this agent told, though the disk has not got that yet.
  private func tellOfWorkNeverBegun(but told: inout Set<String>) async {
    let held = await self.queue.neverBegun
    // Who is told of and given another try may be held once more.
    told.formIntersection(held.map(\.orderID))
    guard !held.isEmpty else { return }
    let waiting = self.safety.waiting
    for trial in held where told.insert(trial.orderID).inserted {
      let detail =
        "order \(trial.orderID): seed \(trial.seed) was handed to its control program "
        + "\(WorkQueue.Limits.attempts) times, which never began it"
      guard !waiting.contains(where: { $0.kind == Self.heldWork && $0.detail == detail }) else { continue }
      self.report(safety: Self.heldWork, trialID: "", detail: detail)
    }
    // Not before the disk has it that they are told.
    guard self.safety.unkept == nil else { return }
    await self.queue.told(told)
    told = []
  }

  /// Kind of the event that tells of work which is held because nobody begins it.
  private static let heldWork = "work-held"
  /// Kind of the event that tells of a trial which will never be stored.
  static let lostTrial = "trial-lost"
  /// Kind of the event that tells of safety events which cannot be read any more.
  static let lostEvents = "reports-lost"

  /// Tells of files that were found damaged and of trials that were moved aside, by this agent or one that ended before it was on
  /// the disk that they are told.
  func tellOfDamage() {
    let waiting = self.safety.waiting
    for file in self.damaged.waiting {
      let (kind, detail) = Self.describe(file)
      guard !waiting.contains(where: { $0.kind == kind && $0.detail == detail }) else { continue }
      self.report(safety: kind, trialID: "", detail: detail)
    }
    for trial in self.spool.untold {
      if !waiting.contains(where: { $0.kind == Self.lostTrial && $0.trialID == trial.trialID }) {
        self.report(safety: Self.lostTrial, trialID: trial.trialID, detail: Self.describe(trial))
      }
      self.spool.refusals.tell(trial.path)
    }
    self.settle()
  }

  /// Tells of a trial that was moved aside.
  package func report(lost trialID: String, at path: String, because reason: String) {
    let trial = RefusedTrials.Untold(trialID: trialID, path: path, reason: reason)
    self.report(safety: Self.lostTrial, trialID: trialID, detail: Self.describe(trial))
    self.spool.refusals.tell(path)
    self.settle()
  }

  private static func describe(_ trial: RefusedTrials.Untold) -> String {
    "\(trial.trialID), set aside as \(trial.path). \(trial.reason)"
  }

  /// What is told is on the disk, or will be settled once it is.
  private func settle() {
    guard self.safety.unkept == nil else { return }
    self.damaged.settle()
    self.spool.refusals.settle()
  }

  private static func describe(_ file: DamagedFiles.File) -> (kind: String, detail: String) {
    file.name == WorkQueue.fileName
      ? (
        "orders-lost",
        "The orders that waited cannot be read; they were moved to \(file.path) and will not be done. Give them again."
      )
      : (
        Self.lostEvents,
        "What the monitor had not confirmed yet cannot be read; it was moved to \(file.path). Stops, and work that was "
          + "lost, may have been among it."
      )
  }
}
