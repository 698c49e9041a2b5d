import Logging
import Schemas
import Storage

/// What a robot's disk lost, and what it refuses.
extension Robot {
  /// What the disk refuses, in sentences, the worst first; nil where it does all that it should. Each holds in memory, and is
  /// tried again.
  package var unkept: String? {
    get async {
      let forgotten = "is not on the disk, and a restart may forget it"
      let sentences = [
        self.condition.unkept.map { "The last stop, resume or health directive \(forgotten): \($0)" },
        await self.queue.unkept.map { "What became of the work orders \(forgotten): \($0)" },
        self.safety.unkept.map { "What the monitor has to hear of \(forgotten): \($0)" },
        self.leftovers.unkept,
      ]
      .compactMap { $0 }
      return sentences.isEmpty ? nil : sentences.joined(separator: " ")
    }
  }

  /// Does again what the disk refused, until it does it. Works until cancelled.
  package func keepWriting() async {
    var backoff = Backoff(first: .milliseconds(500), longest: .seconds(10), runtime: self.runtime)
    var told: String?
    while !Task.isCancelled {
      let why = await self.unkept
      if let why, why != told { self.logger.error("the disk refuses", metadata: ["error": "\(why)"]) }
      told = why
      if self.safety.unkept != nil {
        self.safety.keep()
        if self.safety.unkept == nil { self.damaged.settle() }
      }
      if self.condition.unkept != nil { self.condition.keep() }
      if await self.queue.unkept != nil { await self.queue.keep() }
      self.leftovers.removeAgain()
      if why == nil { backoff.reset() }
      try? await self.runtime.sleep(for: backoff.next())
    }
  }

  /// Kind of the event that tells of safety events which cannot be read any more.
  static let lostEvents = "reports-lost"

  /// Tells of files that were found damaged, by this agent or one that ended before it was on the disk that they are told.
  func tellOfDamage() {
    let waiting = self.safety.waiting
    for file in self.damaged.waiting {
      let (kind, detail) = Self.describe(file)
      guard !waiting.contains(where: { $0.kind == kind && $0.detail == detail }) else { continue }
      self.report(safety: kind, trialID: "", detail: detail)
    }
    if self.safety.unkept == nil { self.damaged.settle() }
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
