package import Schemas
package import Storage
import Synchronization

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

    fileprivate init(trialID: String, ordinal: UInt64, bytes: UInt64) {
      self.trialID = trialID
      self.ordinal = ordinal
      self.bytes = bytes
    }

    /// Reads a file's name; nil where it is none of a trial.
    fileprivate init?(name: String, bytes: UInt64) {
      let parts = name.split(separator: "_", maxSplits: 1)
      // The last number is never given, so that there is always a next one.
      guard parts.count == 2, let ordinal = UInt64(parts[0]), ordinal < .max else { return nil }
      self.init(trialID: String(parts[1]), ordinal: ordinal, bytes: bytes)
    }
  }

  package struct Usage: Sendable, Hashable {
    package var trials: UInt32
    package var bytes: UInt64
    package var filed: UInt64
    package var acknowledged: UInt64
    package var refused: UInt64

    package init(trials: UInt32, bytes: UInt64, filed: UInt64, acknowledged: UInt64, refused: UInt64) {
      self.trials = trials
      self.bytes = bytes
      self.filed = filed
      self.acknowledged = acknowledged
      self.refused = refused
    }

    fileprivate init(_ entries: some Collection<Entry>, numbers: UInt64, skipped: UInt64, refused: UInt64) {
      let waiting = UInt64(entries.count)
      let filed = numbers - min(numbers, skipped)
      self.init(
        trials: UInt32(clamping: waiting), bytes: entries.reduce(0) { $0 + $1.bytes }, filed: filed,
        acknowledged: filed - min(filed, waiting + refused), refused: refused)
    }
  }

  /// The numbers that survive an empty spool.
  private struct Ledger: Codable {
    /// The last that was given.
    var filed: UInt64 = 0
    /// How many were given to trials that the disk then refused; nil in what an older agent left.
    var skipped: UInt64?
  }

  /// Other trials that are tried where one cannot be read.
  private static let probes = 16

  private let executor: any SerialExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let limitBytes: UInt64
  private let reserveBytes: UInt64
  private let disk: any Disk
  private let ledgerFile: KeptFile<Ledger>
  private var entries: [String: Entry] = [:]
  private var filed: UInt64
  private var skipped: UInt64
  private var refused: UInt64 = 0
  /// Trials that lie in `refused/` already, which the disk has not confirmed yet.
  private var aside: Set<String> = []
  /// Trials whose publication was begun, by this agent or one before it: nobody is to count on a second one.
  private var announced: Set<String> = []
  /// Trials that are whole and could be moved neither on nor back, though they may lie in `ready`: the bytes of each.
  private var stranded: [String: UInt64] = [:]
  /// Those of them that whoever recorded them gave up: nobody else files them.
  private var givenUp: Set<String> = []
  private nonisolated let published: Mutex<(usage: Usage, unkept: String?)>
  /// What lies in `refused/`.
  package nonisolated let refusals: RefusedTrials
  /// Trials that earlier agents moved there, and may not have told of.
  package nonisolated let untold: [RefusedTrials.Untold]
  /// Notified when a trial is filed, removed or refused.
  package nonisolated let changed: Wakeup

  /// Opens the spool, or makes it. Trials that a crash cut short are deleted: nobody was told that they are durable.
  /// - Parameters:
  ///   - limitBytes: bytes of filed trials above which no new trial begins.
  ///   - reserveBytes: bytes that must be free on the disk before one begins.
  ///   - leftovers: told of what cannot be deleted; nil where nobody is.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(
    folder: String, limitBytes: UInt64, reserveBytes: UInt64 = 0, disk: any Disk = SystemDisk(),
    runtime: Runtime = .system, leftovers: Leftovers? = nil
  ) throws(RobotError) {
    let leftovers = leftovers ?? Leftovers(disk: disk)
    self.executor = runtime.makeSerialExecutor("fleetloop.robot.spool")
    self.changed = Wakeup(runtime: runtime)
    self.folder = folder
    self.limitBytes = limitBytes
    self.reserveBytes = reserveBytes
    self.disk = disk
    let refusals = RefusedTrials(folder: "\(folder)/refused", disk: disk)
    self.refusals = refusals
    self.ledgerFile = KeptFile(path: "\(folder)/ledger.json", disk: disk)
    // A lost ledger only forgets how many were acknowledged: the names below know the numbers that are still in use.
    let ledger: Ledger? = if case .value(let ledger) = self.ledgerFile.read() { ledger } else { nil }
    let cutShort = try onDisk { () throws(StorageError) in
      for part in ["open", "ready", "refused"] { try disk.makeFolder("\(folder)/\(part)") }
      return try disk.names(in: "\(folder)/open")
    }
    for name in cutShort { leftovers.remove("\(folder)/open/\(name)") }
    for part in ["", "/ready", "/refused"] { try leftovers.remove(in: folder + part) }
    let (ready, untold, refused) = try onDisk { () throws(StorageError) in
      var ready: [Entry] = []
      for name in try disk.names(in: "\(folder)/ready") where !DurableFile.isLeftover(name) {
        let bytes = UInt64(try disk.size(of: "\(folder)/ready/\(name)") ?? 0)
        if let entry = Entry(name: name, bytes: bytes) { ready.append(entry) }
      }
      let untold = try refusals.untold(besides: Set(ready.map(\.name))) {
        Entry(name: $0, bytes: 0)?.trialID
      }
      let refused = try disk.names(in: "\(folder)/refused").filter(RefusedTrials.isTrial)
      return (ready, untold, refused.compactMap { Entry(name: $0, bytes: 0) })
    }
    let entries = Dictionary(ready.map { ($0.trialID, $0) }) { $1 }
    self.entries = entries
    self.announced = Set(entries.keys)
    self.untold = untold
    self.refused = UInt64(refused.count)
    // The crash may have come between filing a trial and writing the ledger.
    let filed = (ready + refused).reduce(min(ledger?.filed ?? 0, .max - 1)) { max($0, $1.ordinal) }
    self.filed = filed
    let skipped = ledger?.skipped ?? 0
    self.skipped = skipped
    self.published = Mutex(
      (Usage(entries.values, numbers: filed, skipped: skipped, refused: UInt64(refused.count)), nil))
    if ledger == nil { try? self.ledgerFile.write(Ledger(filed: filed, skipped: skipped)) }
  }

  /// Waits for nobody.
  package nonisolated var usage: Usage { self.published.withLock { $0.usage } }

  /// Which trial waits to be filed, in a sentence; nil where none does. Waits for nobody.
  package nonisolated var unkept: String? { self.published.withLock { $0.unkept } }

  /// Follows each change of what ``usage`` counts and ``unkept`` tells.
  private func publish() {
    let usage = Usage(
      self.entries.values, numbers: self.filed, skipped: self.skipped, refused: self.refused)
    let unkept = self.stranded.keys.min().map {
      "Trial \($0) is recorded whole, and is not filed before the disk moves files again."
    }
    self.published.withLock { $0 = (usage, unkept) }
  }

  private func keepNumbers() {
    try? self.ledgerFile.write(Ledger(filed: self.filed, skipped: self.skipped))
  }

  /// Filed trials, oldest first.
  package var pending: [Entry] { self.entries.values.sorted { $0.ordinal < $1.ordinal } }

  /// Claims the publication of a trial.
  /// - Returns: false where it was begun before.
  package func announce(_ trialID: String) -> Bool { self.announced.insert(trialID).inserted }

  /// The path at which a new trial is to be recorded.
  /// - Throws: ``RobotError`` `.spoolFull`: trials that nobody acknowledged are never dropped to make room; `.diskFailed` while
  ///   an earlier one waits to be filed: neither would this one be.
  package func admit(trialID: String) throws(RobotError) -> String {
    if let unkept = self.unkept { throw RobotError(.diskFailed, unkept) }
    let usage = self.usage
    guard usage.bytes < self.limitBytes else {
      throw RobotError(
        .spoolFull,
        "The spool holds \(usage.trials) trials with \(usage.bytes) bytes; its limit is \(self.limitBytes). "
          + "It empties once ingest can be reached; or raise robot.spool-bytes.")
    }
    let free = (try? self.disk.freeBytes(at: self.folder)) ?? 0
    guard free >= self.reserveBytes else {
      throw RobotError(
        .spoolFull,
        "\(free) bytes are free for \(self.folder); a trial begins with at least \(self.reserveBytes). Free some space."
      )
    }
    return self.openPath(trialID)
  }

  /// Files a recorded trial whose bytes are synced already. Once this returns, the trial survives a crash.
  /// - Throws: ``RobotError`` `.diskFailed`. It may be tried again; where the disk lets nobody try, ``fileStranded()`` does.
  package func file(trialID: String, bytes: UInt64) throws(RobotError) -> Entry {
    let place = try self.place(of: trialID)
    let entry = Entry(trialID: trialID, ordinal: self.filed + 1, bytes: bytes)
    let (disk, path) = (self.disk, self.path(entry))
    // Also where it fails, so that no two trials ever have one number.
    self.filed = entry.ordinal
    self.skipped += 1
    do {
      try onDisk { () throws(StorageError) in
        try disk.move(place, to: path)
        try disk.synchronizeFolder("\(self.folder)/ready")
      }
    } catch {
      // The caller hears that it is not filed, so no restart may find it there; it may be filed once more.
      // Where even that is refused it stays: nothing is removed that is all there is of a trial.
      do { try disk.move(path, to: place) } catch {
        // Unless the disk says that it is not there: then it never came that far.
        if (try? disk.size(of: path) == nil) != true { self.stranded[trialID] = bytes }
      }
      self.publish()
      self.keepNumbers()
      throw error
    }
    self.skipped -= 1
    self.forgetStranded(trialID)
    self.entries[trialID] = entry
    self.publish()
    // The trial is filed whatever becomes of this: a restart finds its number in its name.
    self.keepNumbers()
    self.changed.notify()
    return entry
  }

  /// Where a trial lies that is not filed.
  private func place(of trialID: String) throws(RobotError) -> String {
    guard self.stranded[trialID] != nil else { return self.openPath(trialID) }
    let ready = "\(self.folder)/ready"
    let names = try onDisk { () throws(StorageError) in try self.disk.names(in: ready) }
    let name = names.first { Entry(name: $0, bytes: 0)?.trialID == trialID }
    return name.map { "\(ready)/\($0)" } ?? self.openPath(trialID)
  }

  /// Files the trials that could be moved neither on nor back and were given up by ``discard(trialID:)``, where the disk lets it.
  /// - Returns: those of which the disk says that they are gone. They are waited for no longer.
  package func fileStranded() -> [String] {
    var lost: [String] = []
    for (trialID, bytes) in self.stranded where self.givenUp.contains(trialID) {
      if self.isGone(trialID) {
        self.forgetStranded(trialID)
        lost.append(trialID)
      } else {
        _ = try? self.file(trialID: trialID, bytes: bytes)
      }
    }
    if !lost.isEmpty { self.publish() }
    return lost
  }

  private func isGone(_ trialID: String) -> Bool {
    guard let place = try? self.place(of: trialID) else { return false }
    do throws(StorageError) { return try self.disk.size(of: place) == nil } catch { return false }
  }

  private func forgetStranded(_ trialID: String) {
    self.stranded[trialID] = nil
    self.givenUp.remove(trialID)
  }

  /// Files a trial of which the disk refused the last sync, or its move: writes it anew from what can be read of it. After a
  /// sync that failed nobody can say what of the file is on the disk.
  /// - Throws: ``RobotError`` `.diskFailed`, `.damaged`; it may be tried again.
  package func fileAnew(trialID: String) throws(RobotError) -> Entry {
    // That one's bytes are synced; where it lies is all that is in doubt.
    if let bytes = self.stranded[trialID] { return try self.file(trialID: trialID, bytes: bytes) }
    let path = self.openPath(trialID)
    let events = try SpoolFile.messages(at: path, on: self.disk)
    guard let last = events.last, case .end = (try? TrialEvent(serializedBytes: last))?.event else {
      throw Self.cut(path)
    }
    let anew = path + ".anew"
    try? self.disk.remove(anew)
    var file = try SpoolFile(creating: anew, on: self.disk)
    for event in events { try file.append(encoded: event) }
    try file.synchronize()
    let (disk, bytes) = (self.disk, file.bytes)
    try onDisk { () throws(StorageError) in try disk.move(anew, to: path) }
    return try self.file(trialID: trialID, bytes: bytes)
  }

  /// The events of a filed trial, encoded, in order; nil where there is no such trial (any more).
  package func messages(of trialID: String) throws(RobotError) -> [[UInt8]]? {
    guard let entry = self.entries[trialID] else { return nil }
    return try SpoolFile.messages(at: self.path(entry), on: self.disk)
  }

  /// The events of a filed trial, in order; nil where there is no such trial (any more).
  package func events(of trialID: String) throws(RobotError) -> [TrialEvent]? {
    guard let entry = self.entries[trialID] else { return nil }
    let events = try SpoolFile.events(at: self.path(entry), on: self.disk)
    // It would be asked for again for ever.
    guard case .end = events.last?.event else { throw Self.cut(self.path(entry)) }
    return events
  }

  /// A file that was cut between two events reads well.
  private static func cut(_ path: String) -> RobotError {
    RobotError(.damaged, "The spool file \(path) ends before its trial does.")
  }

  /// Whether anything besides a trial that cannot be read can be: another part of its file, another trial, the ledger. Where
  /// nothing can, the disk fails, and the trial may be whole.
  package func canReadBesides(_ trialID: String) -> Bool {
    guard let entry = self.entries[trialID] else { return true }
    if case .absent = self.ledgerFile.read() { self.keepNumbers() }
    let others = self.entries.values.lazy.filter { $0.trialID != trialID }.prefix(Self.probes).map(self.path)
    return ([self.path(entry), self.ledgerFile.path] + others).contains {
      SpoolFile.hasReadableBlock(at: $0, on: self.disk)
    }
  }

  /// Deletes a trial that ingest has. An unknown one is no error: acknowledgements may come twice.
  /// - Returns: whether it was here.
  @discardableResult
  package func remove(_ trialID: String) -> Bool {
    guard let entry = self.entries.removeValue(forKey: trialID) else { return false }
    self.announced.remove(trialID)
    self.publish()
    // Where it stays, a restart sends it again, and hears that ingest has it.
    do throws(StorageError) {
      // Before its file: nobody may take it for lost.
      try self.refusals.forget(self.asidePath(entry))
      try self.disk.remove(self.path(entry))
    } catch {}
    self.aside.remove(trialID)
    self.changed.notify()
    return true
  }

  /// Moves a trial aside that will never be stored, with the reason in a file beside it. Of one whose file is gone an empty
  /// one is left there: a restart must not take it for acknowledged. Whoever has told of it says so to ``refusals``; else the next
  /// agent tells of it.
  /// - Returns: where it lies now; nil where there is no such trial.
  /// - Throws: ``RobotError`` `.diskFailed`; the trial stays in the spool, as readable as it was, and can be refused again.
  @discardableResult
  package func refuse(_ trialID: String, reason: String) throws(RobotError) -> String? {
    guard let entry = self.entries[trialID] else { return nil }
    let (disk, path, aside) = (self.disk, self.path(entry), self.asidePath(entry))
    let refusals = self.refusals
    // Nothing that lies there already is written over: it may be all that there is of the trial.
    try onDisk { () throws(StorageError) in
      try refusals.expect(aside, reason: reason)
      if path != aside, try disk.size(of: path) != nil {
        try disk.move(path, to: aside)
      } else if try disk.size(of: aside) == nil {
        try DurableFile.write([UInt8](), to: aside, on: disk)
      }
    }
    self.aside.insert(trialID)
    try onDisk { () throws(StorageError) in try disk.synchronizeFolder("\(self.folder)/refused") }
    self.aside.remove(trialID)
    self.entries[trialID] = nil
    self.announced.remove(trialID)
    self.refused += 1
    self.publish()
    self.changed.notify()
    return aside
  }

  /// Deletes what was recorded of a trial that will not be filed.
  /// - Returns: false where nothing is deleted, because ``fileStranded()`` will file it after all, or the next agent finds it.
  @discardableResult
  package func discard(trialID: String) -> Bool {
    guard self.stranded[trialID] == nil else {
      self.givenUp.insert(trialID)
      return false
    }
    try? self.disk.remove(self.openPath(trialID))
    try? self.disk.remove(self.openPath(trialID) + ".anew")
    return true
  }

  private func path(_ entry: Entry) -> String {
    self.aside.contains(entry.trialID)
      ? self.asidePath(entry) : "\(self.folder)/ready/\(entry.name)"
  }
  private func asidePath(_ entry: Entry) -> String { "\(self.folder)/refused/\(entry.name)" }
  private func openPath(_ trialID: String) -> String { "\(self.folder)/open/\(trialID)" }
}

extension String {
  fileprivate func leftPadded(to width: Int) -> String {
    String(repeating: "0", count: Swift.max(0, width - self.count)) + self
  }
}
