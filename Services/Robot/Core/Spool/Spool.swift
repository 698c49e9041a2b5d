import Foundation
package import Schemas
import Storage

/// The trials of one robot that nobody acknowledged yet, on its disk.
///
/// `open/` holds the trial that is being recorded, `ready/` those that are filed: named by a number that only grows, so
/// that a restart knows how many there ever were. A filed trial leaves only through ``remove(_:)``, once ingest
/// has it, or through ``refuse(_:reason:)``, which moves it to `refused/` for a person to look at.
package actor Spool {
  package struct Entry: Sendable, Hashable {
    package let trialID: String
    package let ordinal: UInt64
    package let bytes: UInt64

    fileprivate var name: String { "\(String(self.ordinal).leftPadded(to: 12))_\(self.trialID)" }
  }

  package struct Usage: Sendable, Hashable {
    package var trials: UInt32
    package var bytes: UInt64
    package var filed: UInt64
    package var acknowledged: UInt64
    package var refused: UInt64
  }

  /// Numbers that survive a restart.
  private struct Ledger: Codable {
    var filed: UInt64 = 0
    var refused: UInt64 = 0
  }

  private let executor = QueueExecutor(label: "fleetloop.robot.spool")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let limitBytes: UInt64
  private let reserveBytes: UInt64
  private var entries: [String: Entry] = [:]
  private var ledger: Ledger
  /// Trials whose publication was begun, by this agent or one before it: nobody is to count on a second one.
  private var announced: Set<String> = []
  /// Notified when a trial is filed, removed or refused.
  package nonisolated let changed = Wakeup()

  /// Opens the spool, or makes it. Trials that a crash cut short are deleted: nobody was told that they are durable.
  /// - Parameters:
  ///   - limitBytes: bytes of filed trials above which no new trial begins.
  ///   - reserveBytes: bytes that must be free on the disk before one begins.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(folder: String, limitBytes: UInt64, reserveBytes: UInt64 = 0) throws {
    self.folder = folder
    self.limitBytes = limitBytes
    self.reserveBytes = reserveBytes
    for part in ["open", "ready", "refused"] { try DiskFolder.make("\(folder)/\(part)") }
    for name in try DiskFolder.names("\(folder)/open") { unlink("\(folder)/open/\(name)") }
    self.ledger = try DiskFolder.readJSON(Ledger.self, "\(folder)/ledger.json") ?? Ledger()
    for name in try DiskFolder.names("\(folder)/ready") {
      let parts = name.split(separator: "_", maxSplits: 1)
      guard parts.count == 2, let ordinal = UInt64(parts[0]) else { continue }
      let bytes = DiskFolder.size("\(folder)/ready/\(name)")
      let entry = Entry(trialID: String(parts[1]), ordinal: ordinal, bytes: bytes)
      self.entries[entry.trialID] = entry
      self.announced.insert(entry.trialID)
      // The crash may have come between filing the trial and writing the ledger.
      self.ledger.filed = max(self.ledger.filed, ordinal)
    }
    self.ledger.refused = UInt64(
      try DiskFolder.names("\(folder)/refused").filter { !$0.hasSuffix(".reason") }.count)
  }

  package var usage: Usage {
    let waiting = UInt64(self.entries.count)
    return Usage(
      trials: UInt32(clamping: waiting), bytes: self.entries.values.reduce(0) { $0 + $1.bytes },
      filed: self.ledger.filed, acknowledged: self.ledger.filed - waiting - self.ledger.refused,
      refused: self.ledger.refused)
  }

  /// Filed trials, oldest first.
  package var pending: [Entry] { self.entries.values.sorted { $0.ordinal < $1.ordinal } }

  /// Claims the publication of a trial.
  /// - Returns: false where it was begun before.
  package func announce(_ trialID: String) -> Bool { self.announced.insert(trialID).inserted }

  /// The path at which a new trial is to be recorded.
  /// - Throws: ``RobotError`` `.spoolFull`: trials that nobody acknowledged are never dropped to make room.
  package func admit(trialID: String) throws(RobotError) -> String {
    let usage = self.usage
    guard usage.bytes < self.limitBytes else {
      throw RobotError(
        .spoolFull,
        "The spool holds \(usage.trials) trials with \(usage.bytes) bytes; its limit is \(self.limitBytes). "
          + "It empties once ingest can be reached; or raise robot.spool-bytes.")
    }
    let free = DiskFolder.freeBytes(self.folder)
    guard free >= self.reserveBytes else {
      throw RobotError(
        .spoolFull,
        "\(free) bytes are free for \(self.folder); a trial begins with at least \(self.reserveBytes). Free some space."
      )
    }
    return "\(self.folder)/open/\(trialID)"
  }

  /// Files a recorded trial whose bytes are synced already. Once this returns, the trial survives a crash.
  package func file(trialID: String, bytes: UInt64) throws(RobotError) -> Entry {
    let entry = Entry(trialID: trialID, ordinal: self.ledger.filed + 1, bytes: bytes)
    try DiskFolder.move("\(self.folder)/open/\(trialID)", to: self.path(entry))
    try DiskFolder.synchronize("\(self.folder)/ready")
    self.entries[trialID] = entry
    self.ledger.filed = entry.ordinal
    // The trial is filed whatever becomes of this: a restart finds its number in its name.
    try? DiskFolder.writeJSON(self.ledger, "\(self.folder)/ledger.json")
    self.changed.notify()
    return entry
  }

  /// The events of a filed trial, in order; nil where there is no such trial (any more).
  package func events(of trialID: String) throws(RobotError) -> [TrialEvent]? {
    guard let entry = self.entries[trialID] else { return nil }
    return try SpoolFile.events(at: self.path(entry))
  }

  /// Deletes a trial that ingest has. An unknown one is no error: acknowledgements may come twice.
  /// - Returns: whether it was here.
  @discardableResult
  package func remove(_ trialID: String) -> Bool {
    guard let entry = self.entries.removeValue(forKey: trialID) else { return false }
    self.announced.remove(trialID)
    unlink(self.path(entry))
    self.changed.notify()
    return true
  }

  /// Moves a trial aside that will never be stored, with the reason in a file beside it.
  package func refuse(_ trialID: String, reason: String) throws(RobotError) {
    guard let entry = self.entries[trialID] else { return }
    let aside = "\(self.folder)/refused/\(entry.name)"
    DiskFolder.write(reason + "\n", to: aside + ".reason")
    try DiskFolder.move(self.path(entry), to: aside)
    self.entries[trialID] = nil
    self.announced.remove(trialID)
    self.ledger.refused += 1
    self.changed.notify()
  }

  /// Deletes what was recorded of a trial that will not be filed.
  package func discard(trialID: String) { unlink("\(self.folder)/open/\(trialID)") }

  private func path(_ entry: Entry) -> String { "\(self.folder)/ready/\(entry.name)" }
}

extension String {
  fileprivate func leftPadded(to width: Int) -> String {
    String(repeating: "0", count: Swift.max(0, width - self.count)) + self
  }
}
