public import Foundation
public import Schemas
public import Storage

/// The trial log and its catalog as one: trials go in once and are durable when told so, and come out again.
///
/// A trial is stored because it is in the log. The catalog is an index of the log: while it cannot be written, trials go on being
/// stored, and are indexed later.
///
/// The log's disk has a thread of its own, and the catalog another, for which no acknowledgement waits. Trials that arrive while the
/// log syncs wait for the next sync together.
public actor TrialStore {
  public struct Configuration: Sendable {
    public var log = TrialLog.Configuration()
    /// Trials that are being checked or wait for the disk at most; more are refused until it catches up.
    public var maximumWaiting = 256
    /// Their bytes at most. One trial alone may be larger.
    public var maximumWaitingBytes = 512 << 20
    /// Trials of one sync at most.
    public var maximumGroup = 64
    /// Stored trials that wait for the catalog at most; more are refused until it can be written.
    public var maximumUncatalogued = 10_000
    /// Bytes of their rows at most, at which no further trial is taken.
    public var maximumUncataloguedBytes = 64 << 20
    /// Threads that check trials.
    public var checkThreads = 2
    public var limits = QualityLimits()
    public init() {}
  }

  /// What became of a trial.
  public enum Verdict: Sendable, Hashable {
    case stored
    case quarantined([QualityReason])
    case duplicate
  }

  /// What an operator should hear of.
  public enum Notice: Sendable {
    /// Trials are lost, or may be.
    case damage(LogDamage)
    /// A record of damage cannot be read any more. Said at each start.
    case damageRecordUnreadable(path: String, any Error)
    /// A crash had torn the end of the log, where nothing acknowledged was.
    case torn(file: String, bytes: Int)
    /// The catalog did not agree with the log, and does now.
    case reconciled(added: Int, dropped: Int)
    /// Stored trials wait for the catalog, which cannot be written. Said once until it can.
    case catalogBehind(trials: Int, any Error)
    case catalogCaughtUp
    /// Something in the catalog cannot be there. It is made anew at once, for which trials wait.
    case catalogDamaged(any Error)
    /// The catalog was damaged, put aside, and made anew from the log. Where that was while opening, counters begin at 0 again.
    case catalogMadeAnew(damaged: String, any Error)
    /// A log file cannot be sealed, so trials go on into it. Said once until it can.
    case rotationFailed(TrialsError)
  }

  private struct Waiting {
    var trial: TrialRecord
    var reasons: [QualityReason]
    var continuation: CheckedContinuation<Verdict, any Error>
  }

  private let executor: any SerialExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private var index: TrialCatalog
  private var writer: CatalogWriter
  /// What is to stand in place of a damaged `index`, and is not all read from the log yet.
  private var renewal: (catalog: TrialCatalog, damaged: String, cause: any Error)?
  private let configuration: Configuration
  private let folder: String
  private let runtime: Runtime
  private let tell: @Sendable (Notice) -> Void
  private let lock: FolderLock?
  private let log: TrialLog
  private let damageBook: DamageBook
  private let reader: LogReader
  private let snapshots: SnapshotFolder
  private let counters: Counters

  private var idleCheckers: [QualityChecker]
  private var awaitingChecker = FairQueue<CheckedContinuation<QualityChecker, Never>>()
  private var admitted = (trials: 0, bytes: 0)
  private var waiting: [Waiting] = []
  private var isDraining = false
  private var backlog = IndexBacklog()
  /// Writes the catalog now.
  private var indexing: Task<Void, Never>?
  private var catalogFailure: (any Error)?
  private var saidRotationFailed = false

  /// Opens a store on the machine's disk and takes its folder's lock.
  /// - Parameter folder: holds `log/`, `snapshots/`, `damage/` and `catalog.sqlite`; made where it is missing.
  /// - Throws: ``TrialsError``; `StorageError` `.inUse` where another process owns the folder.
  public init(
    folder: URL, configuration: Configuration = .init(), tell: @escaping @Sendable (Notice) -> Void = { _ in }
  ) throws {
    let lock = try FolderLock(folder: folder.path, owner: "ingest")
    let opened = try OpenedStore.onSystemDisk(folder: folder.path, configuration: configuration, tell: tell)
    self.init(
      opened, folder: folder.path, configuration: configuration, disk: SystemDisk(), runtime: .system,
      lock: lock,
      tell: tell)
  }

  /// Opens a store and makes log and catalog agree.
  /// - Parameters:
  ///   - lock: held as long as the store lives.
  ///   - tell: called on the store's thread, and while opening.
  /// - Throws: ``TrialsError``; `.catalog` where the catalog is damaged.
  public init(
    folder: String, configuration: Configuration = .init(), disk: any Disk, runtime: Runtime,
    catalog: TrialCatalog, lock: FolderLock? = nil, tell: @escaping @Sendable (Notice) -> Void = { _ in }
  ) throws {
    let opened = try OpenedStore(
      folder: folder, configuration: configuration, disk: disk, runtime: runtime, catalog: catalog, tell: tell
    )
    self.init(
      opened, folder: folder, configuration: configuration, disk: disk, runtime: runtime, lock: lock,
      tell: tell)
  }

  private init(
    _ opened: sending OpenedStore, folder: String, configuration: Configuration, disk: any Disk,
    runtime: Runtime,
    lock: FolderLock?, tell: @escaping @Sendable (Notice) -> Void
  ) {
    self.folder = folder
    self.configuration = configuration
    self.runtime = runtime
    self.lock = lock
    self.tell = tell
    self.index = opened.catalog
    self.log = opened.log
    self.damageBook = opened.damageBook
    self.snapshots = opened.snapshots
    self.counters = opened.counters
    self.writer = CatalogWriter(opened.catalog, runtime: runtime)
    self.executor = runtime.makeSerialExecutor("fleetloop.trials.log")
    self.reader = LogReader(folder: "\(folder)/log", disk: disk, runtime: runtime)
    self.idleCheckers = (0..<max(1, configuration.checkThreads)).map { _ in QualityChecker(runtime: runtime) }
  }

  // MARK: In

  /// Stores a trial, unless it is stored already. Returns once it is durable.
  /// - Throws: ``TrialsError``; `.refused` where it never can be. `.busy`, `.diskFull` and `.fileSystem` mean that nothing was stored
  ///   and the robot should keep its copy.
  public func store(_ trial: TrialRecord) async throws -> Verdict {
    if try await self.isStored(TrialName(robot: trial.robot, trialID: trial.trialID)) { return .duplicate }
    let bytes = trial.events.reduce(0) { $0 + $1.serializedSize }
    try self.admit(bytes)
    defer { self.admitted = (self.admitted.trials - 1, self.admitted.bytes - bytes) }
    let reasons = try await self.check(trial)
    return try await withCheckedThrowingContinuation { continuation in
      self.waiting.append(Waiting(trial: trial, reasons: reasons, continuation: continuation))
      guard !self.isDraining else { return }
      self.isDraining = true
      Task(executorPreference: self.runtime.taskExecutor) { await self.drain() }
    }
  }

  private func admit(_ bytes: Int) throws(TrialsError) {
    guard self.backlog.rows.count < self.configuration.maximumUncatalogued,
      self.backlog.bytes < self.configuration.maximumUncataloguedBytes
    else {
      throw TrialsError(
        .busy,
        "\(self.backlog.rows.count) stored trials wait for the catalog of \(self.folder), which cannot be written in time; "
          + "free space there or end what locks it.", cause: self.catalogFailure)
    }
    guard self.admitted.trials < self.configuration.maximumWaiting,
      self.admitted.trials == 0 || self.admitted.bytes + bytes <= self.configuration.maximumWaitingBytes
    else {
      throw TrialsError(
        .busy,
        "\(self.admitted.trials) trials of \(self.admitted.bytes) bytes wait for checks and the disk; send this one "
          + "again later.")
    }
    self.admitted = (self.admitted.trials + 1, self.admitted.bytes + bytes)
  }

  /// Trials that are being checked or wait for the disk.
  public var trialsUnderWay: Int { self.admitted.trials }

  /// Checks a trial once a checker is free and it is its robot's turn.
  private func check(_ trial: TrialRecord) async throws -> [QualityReason] {
    let checker = await self.freeChecker(for: trial.robot)
    defer {
      if let next = self.awaitingChecker.popFirst() {
        next.resume(returning: checker)
      } else {
        self.idleCheckers.append(checker)
      }
    }
    return try await checker.reasons(for: trial, limits: self.configuration.limits)
  }

  private func freeChecker(for robot: String) async -> QualityChecker {
    if let checker = self.idleCheckers.popLast() { return checker }
    return await withCheckedContinuation { self.awaitingChecker.append($0, of: robot) }
  }

  /// Whether a trial stands in the log. The catalog's word is not enough: the robot deletes its copy on the answer.
  private func isStored(_ name: TrialName) async throws -> Bool {
    do {
      _ = try await self.trial(name)
      return true
    } catch let error as TrialsError where error.code == .notFound || error.code == .corrupt {
      return false
    }
  }

  private func drain() async {
    while !self.waiting.isEmpty {
      let group = Array(self.waiting.prefix(self.configuration.maximumGroup))
      self.waiting.removeFirst(group.count)
      self.commit(group)
      self.keepIndexed()
      // Whoever came while the disk synced joins the next group.
      await Task.yield()
    }
    self.isDraining = false
  }

  private func commit(_ group: [Waiting]) {
    var fresh: [Waiting] = []
    var duplicates: [Waiting] = []
    var names: Set<TrialName> = []
    for waiting in group {
      let name = TrialName(robot: waiting.trial.robot, trialID: waiting.trial.trialID)
      do {
        let isNew = try names.insert(name).inserted && self.place(of: name) == nil
        if isNew { fresh.append(waiting) } else { duplicates.append(waiting) }
      } catch {
        // Where the catalog cannot say it of one, the others go on.
        waiting.continuation.resume(throwing: error)
      }
    }
    do {
      if !fresh.isEmpty {
        let now = self.runtime.unixNanos()
        let positions = try self.log.append(fresh.map(\.trial), storedUnixNanos: now)
        for (waiting, position) in zip(fresh, positions) {
          self.backlog.add(
            TrialRow(waiting.trial, position: position, reasons: waiting.reasons, storedUnixNanos: now))
        }
        self.tellOfRotation()
      }
      for waiting in fresh {
        waiting.continuation.resume(
          returning: waiting.reasons.isEmpty ? .stored : .quarantined(waiting.reasons))
      }
      for waiting in duplicates { waiting.continuation.resume(returning: .duplicate) }
    } catch {
      for waiting in fresh + duplicates { waiting.continuation.resume(throwing: error) }
    }
  }

  private func tellOfRotation() {
    if let failure = self.log.rotationFailure, !self.saidRotationFailed {
      self.tell(.rotationFailed(failure))
    }
    self.saidRotationFailed = self.log.rotationFailure != nil
  }

  // MARK: Catalog

  /// The index of what is stored. Acknowledgements do not wait for it, so it is first brought up to them: whoever was told that a
  /// trial is stored finds it there, unless the catalog cannot be written.
  public var catalog: TrialCatalog {
    get async {
      if !self.backlog.isEmpty, self.catalogFailure == nil { await self.writeIndex() }
      return self.index
    }
  }

  /// Brings the catalog up to the log as it is now. Returns once it is, or once that failed: what it cannot take now it takes later.
  private func writeIndex() async {
    // What is under way began before, without what came since. Whatever begins once it is done has all that.
    await self.indexing?.value
    await (self.indexing ?? self.beginIndexing()).value
  }

  /// The same, behind the caller's back.
  private func keepIndexed() {
    guard self.indexing == nil, !self.backlog.isEmpty else { return }
    _ = self.beginIndexing()
  }

  private func beginIndexing() -> Task<Void, Never> {
    let task = Task(executorPreference: self.runtime.taskExecutor) { await self.writeBatch() }
    self.indexing = task
    return task
  }

  private func writeBatch() async {
    let batch = CatalogWriter.Batch(
      rows: self.backlog.rows, files: Array(self.log.changes.values), lost: self.backlog.lost,
      counters: self.counters.changes)
    var failure: (any Error)?
    do { try await self.writer.write(batch) } catch { failure = error }
    self.indexing = nil
    if let failure {
      self.fallBehind(failure)
    } else {
      self.counters.wrote(batch.counters)
      self.backlog.wrote(batch.rows, dropping: batch.lost)
      for file in batch.files where self.log.changes[file.name] == file { self.log.changes[file.name] = nil }
      self.catchUp()
      self.keepIndexed()
    }
  }

  private func fallBehind(_ failure: any Error) {
    if self.catalogFailure == nil {
      self.tell(.catalogBehind(trials: self.backlog.rows.count, failure))
      self.keepTrying()
    }
    self.catalogFailure = failure
  }

  private func catchUp() {
    if self.catalogFailure != nil { self.tell(.catalogCaughtUp) }
    self.catalogFailure = nil
  }

  private func keepTrying() {
    let runtime = self.runtime
    Task(executorPreference: runtime.taskExecutor) { [weak self] in
      while (try? await runtime.sleep(for: .seconds(1))) != nil {
        guard let self, await self.isBehindAfterIndexing() else { return }
      }
    }
  }

  private func isBehindAfterIndexing() async -> Bool {
    await self.flushCounters()
    return self.catalogFailure != nil
  }

  /// Puts a damaged catalog aside and makes another from the log, as opening does: nobody is answered meanwhile. What fails is done
  /// when this is called again.
  private func mendIndex() async {
    while let indexing = self.indexing { await indexing.value }
    let before = self.renewal?.catalog ?? self.index
    do {
      if let damage = before.damage {
        if self.renewal == nil { self.tell(.catalogDamaged(damage)) }
        let (catalog, damaged) = try before.anew(number: self.runtime.unixNanos())
        self.renewal = (catalog, damaged, damage)
      }
      guard let (catalog, damaged, cause) = self.renewal else { return }
      var reconciliation = Reconciliation(
        log: self.log, catalog: catalog, damages: self.damageBook, limits: self.configuration.limits,
        nowUnixNanos: self.runtime.unixNanos())
      defer { for damage in reconciliation.found { self.tell(.damage(damage)) } }
      try reconciliation.run()
      self.index = catalog
      self.writer = CatalogWriter(catalog, runtime: self.runtime)
      self.renewal = nil
      self.backlog = IndexBacklog()
      self.log.changes = [:]
      self.counters.lost()
      self.tell(.catalogMadeAnew(damaged: damaged, cause))
      self.catchUp()
    } catch {
      self.fallBehind(error)
    }
  }

  // MARK: Counters

  /// Counts one more, in memory: it never waits for a disk. Written with the index and by ``flushCounters()``.
  public nonisolated func count(_ counter: String) { self.counters.increment(counter) }

  /// What a counter has come to, over all processes that had this store.
  public nonisolated func counter(_ name: String) -> Int { self.counters.value(name) }

  /// Writes counters that have changed, and what the index lacks. What cannot be written now is written later. Makes the index anew
  /// where it is damaged.
  public func flushCounters() async {
    if self.index.damage != nil { await self.mendIndex() }
    if !self.counters.changes.isEmpty || !self.backlog.isEmpty || self.catalogFailure != nil {
      await self.writeIndex()
    }
  }

  /// Stored trials that wait for the catalog.
  public var uncataloguedTrials: Int { self.backlog.rows.count }

  private func place(of name: TrialName) throws -> LogPosition? {
    if let place = self.backlog.place(of: name) { return place }
    guard let place = try self.index.position(robot: name.robot, trialID: name.trialID),
      !self.backlog.isLost(name, at: place)
    else { return nil }
    return place
  }

  // MARK: Out

  /// Bytes of a trial's record in the log; 0 where none of this name is stored.
  public func logBytes(of name: TrialName) throws -> Int { try self.place(of: name)?.length ?? 0 }

  /// A stored trial.
  /// - Throws: ``TrialsError`` `.notFound` where none of this name is stored, `.corrupt` where the log holds it no more: it is then
  ///   noted as lost, and its next sending is stored again.
  public func trial(_ name: TrialName) async throws -> TrialRecord {
    guard let place = try self.place(of: name) else {
      throw TrialsError(.notFound, "Robot '\(name.robot)' has no stored trial '\(name.trialID)'.")
    }
    do {
      return try await self.reader.trial(name, at: place)
    } catch let error as TrialsError where Self.isLoss(error) {}
    do {
      // Once more and from a file that is opened anew, because this cannot be taken back.
      return try await self.reader.trial(name, at: place, reopening: true)
    } catch let error as TrialsError where Self.isLoss(error) {
      try self.lose(name, at: place, because: error)
      throw error.code == .unreadable ? TrialsError(.corrupt, error.message, cause: error.cause) : error
    }
  }

  private static func isLoss(_ error: TrialsError) -> Bool {
    error.code == .corrupt || error.code == .notFound || error.code == .unreadable
  }

  /// Believes in a place no more, whether or not the catalog can be told: the next sending of its trial is stored again.
  /// - Throws: ``TrialsError`` `.fileSystem` where the disk does not take the record of it: then the row stays.
  private func lose(_ name: TrialName, at place: LogPosition, because error: TrialsError) throws {
    // It may have been stored again, or given up, while this was read.
    guard try self.place(of: name) == place else { return }
    do {
      let bytes = place.offset..<place.offset + place.length
      let found =
        error.code == .notFound
        ? FoundDamage(bytes, missing: [name], from: place.file)
        : try self.log.damage(in: place.file, at: bytes)
      let damage = try self.damageBook.note(
        found, lost: [(name, place)], nowUnixNanos: self.runtime.unixNanos())
      if let damage { self.tell(.damage(damage)) }
    } catch let unwritten {
      // Nothing is dropped of which nothing would be left that names it: the next start does not read files that are whole in
      // length. What cannot be noted now could not be stored again either.
      throw TrialsError(.fileSystem, "\(error.message) Nor can the damage be noted.", cause: unwritten)
    }
    self.log.discount(place)
    self.backlog.lose(name, at: place)
    self.keepIndexed()
  }

  /// Fixes the trials of a query under a name that depends on nothing but the trials.
  public nonisolated func createSnapshot(_ query: TrialQuery) async throws -> DatasetSnapshot {
    var (names, snapshot) = try await self.catalog.selection(of: query)
    snapshot.createdUnixNanos = self.runtime.unixNanos()
    return try await self.snapshots.make(snapshot, of: names)
  }

  /// The trials of a snapshot, in its order.
  /// - Throws: ``TrialsError`` `.notFound` where there is none of this name.
  public nonisolated func trials(ofSnapshot id: String) async throws -> [TrialName] {
    try await self.snapshots.trials(of: id)
  }

  /// Bytes and files of the log, free bytes beside it, and trials that stand in it more than once.
  public nonisolated func usage() async throws -> (bytes: Int, files: Int, free: UInt64, duplicates: Int) {
    let usage = try await self.reader.usage()
    return (usage.bytes, usage.files, usage.free, try await self.catalog.duplicates())
  }

  /// Damage that was found in the log: the latest, oldest first, and how many there are in all.
  public func damages() -> (recent: [LogDamage], count: Int) {
    (self.damageBook.recent, self.damageBook.count)
  }
}
