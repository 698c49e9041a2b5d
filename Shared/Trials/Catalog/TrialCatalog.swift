import Foundation
import GRDB
public import Schemas
import Storage
import Synchronization

/// What is in the trial log, as a database: one process owns it, and it can be made anew from the log.
///
/// Whoever meets something in it that cannot be there gets an error, and the database is marked: it does not open again. Whoever
/// owns it makes it anew.
public final class TrialCatalog: Sendable {
  /// Rows of one page at most.
  public static let maximumPage = 1_000
  /// Bytes of its summaries, as encoded, at which a page ends: far below what a message of the bus may have.
  static let maximumPageBytes = 8 << 20

  /// Tasks that a snapshot counts by name, those with most trials; the others are counted together.
  static let maximumTasks = 1_000

  private static let damagedMark = 1
  /// Answers that may be worked out at once. Who asks for more waits, and the store with them.
  public static let maximumAnswers = 16

  private let database: any DatabaseWriter
  private let path: String?
  private var name: String { self.path ?? "in memory" }
  private let firstDamage = Mutex<(any Error)?>(nil)
  private let beforeWriting: @Sendable () throws -> Void
  private let beforeAnswering: @Sendable () -> Void

  /// Opens or makes the catalog.
  /// - Parameters:
  ///   - path: of the SQLite file; nil for one in memory that goes with the process.
  ///   - beforeWriting: called in front of every change; what it throws, the change throws. For tests of a disk that fails.
  ///   - beforeAnswering: called in front of every answer to who lists, counts or selects trials. For tests of a slow one.
  /// - Throws: ``TrialsError`` `.fileSystem`, `.catalog`.
  public init(
    path: String?, beforeWriting: @escaping @Sendable () throws -> Void = {},
    beforeAnswering: @escaping @Sendable () -> Void = {}
  ) throws {
    self.beforeAnswering = beforeAnswering
    self.beforeWriting = beforeWriting
    var configuration = Configuration()
    // Whoever waits for this waits with everybody who stores a trial; what cannot be written now is written later.
    configuration.busyMode = .timeout(0.2)
    // The last is for the store, which must know before it acknowledges whether it has a trial.
    configuration.maximumReaderCount = Self.maximumAnswers + 1
    configuration.prepareDatabase { database in
      // The log is the truth: a transaction that a power cut takes is found again there.
      try database.execute(sql: "PRAGMA synchronous = NORMAL")
    }
    self.path = path
    let name = path ?? "in memory"
    do {
      // A pool reads while it writes.
      self.database =
        if let path {
          try DatabasePool(path: path, configuration: configuration)
        } else {
          try DatabaseQueue(configuration: configuration)
        }
      try CatalogSchema.migrator.migrate(self.database)
      let mark = try self.database.read { try Int.fetchOne($0, sql: "PRAGMA user_version") }
      guard mark != Self.damagedMark else { throw Self.damage(name, nil) }
    } catch let error as TrialsError {
      throw error
    } catch {
      throw Self.isDamage(error) || Self.isOtherSchema(error)
        ? Self.damage(name, error)
        : TrialsError(
          .fileSystem,
          "Cannot open the catalog \(name). If it is damaged, delete it: it is made anew from the log.",
          cause: error)
    }
  }

  // MARK: Damage

  /// What was found in the catalog since it was opened that cannot be there; the first of it.
  public var damage: (any Error)? { self.firstDamage.withLock { $0 } }

  private static func isDamage(_ error: any Error) -> Bool {
    let code = (error as? DatabaseError)?.resultCode
    return error is MistypedValue || error is RowDecodingError || code == .SQLITE_CORRUPT
      || code == .SQLITE_NOTADB
  }

  /// Whether tables are not those that the catalog says it has. Later the same codes may be a caller's fault.
  private static func isOtherSchema(_ error: any Error) -> Bool {
    let code = (error as? DatabaseError)?.resultCode
    return code == .SQLITE_ERROR || code == .SQLITE_CONSTRAINT
  }

  private static func damage(_ name: String, _ cause: (any Error)?) -> TrialsError {
    TrialsError(
      .catalog, "The catalog \(name) is damaged, and is made anew from the log; ask again then.", cause: cause
    )
  }

  /// Has the next process make the catalog anew.
  private func mark(_ damage: any Error) {
    let isFirst = self.firstDamage.withLock { first in
      defer { first = first ?? damage }
      return first == nil
    }
    // Where even that cannot be written, the next process may have to find it by itself.
    if isFirst {
      try? self.database.writeWithoutTransaction {
        try $0.execute(sql: "PRAGMA user_version = \(Self.damagedMark)")
      }
    }
  }

  private func marked(_ error: any Error) -> any Error {
    guard Self.isDamage(error) else { return error }
    self.mark(error)
    return Self.damage(self.name, error)
  }

  private func read<Result>(_ body: (Database) throws -> Result) throws -> Result {
    do { return try self.database.read(body) } catch { throw self.marked(error) }
  }

  /// Reads on a thread of the database's own, as long as that takes: the caller's is free meanwhile, and its cancellation ends it.
  private func answer<Result: Sendable>(
    _ body: @Sendable @escaping (Database) throws -> Result
  ) async throws -> Result {
    do {
      return try await self.database.read { database in
        self.beforeAnswering()
        return try body(database)
      }
    } catch {
      throw self.marked(error)
    }
  }

  private func write<Result>(_ change: (Database) throws -> Result) throws -> Result {
    try self.beforeWriting()
    do { return try self.database.write(change) } catch { throw self.marked(error) }
  }

  /// Lets go of the file. Nothing of it can be read any more, and whoever reads it now gets an error.
  func close() {
    self.database.interrupt()
    try? self.database.close()
  }

  /// Closes a catalog, moves it aside, and makes an empty one in its place.
  /// - Parameter number: tells it from others that were moved.
  /// - Returns: the new one, and where the old one lies now.
  /// - Throws: ``TrialsError``; what is not done then is done when it is called again.
  func anew(number: Int64) throws -> (catalog: TrialCatalog, damaged: String) {
    self.close()
    let damaged = try self.path.map { try Self.setAside($0, number: number) } ?? self.name
    let catalog = try TrialCatalog(
      path: self.path, beforeWriting: self.beforeWriting, beforeAnswering: self.beforeAnswering)
    return (catalog, damaged)
  }

  /// Moves a catalog that is damaged aside, for a person to look at. Nobody has it open.
  /// - Parameter number: tells it from others that were moved.
  /// - Returns: where it lies now.
  static func setAside(_ path: String, number: Int64, on disk: any Disk = SystemDisk()) throws(TrialsError)
    -> String
  {
    let aside = "\(path).damaged-\(number)"
    try TrialsError.disk { () throws(StorageError) in
      // The file itself goes last: what is left of it if this ends between is brought into line with the log.
      for part in ["-wal", "-shm", ""] where try disk.size(of: path + part) != nil {
        try disk.move(path + part, to: aside + part)
      }
      try disk.synchronizeFolder(DurableFile.folder(of: path))
    }
    return aside
  }

  // MARK: Trials

  public func contains(robot: String, trialID: String) throws -> Bool {
    try self.position(robot: robot, trialID: trialID) != nil
  }

  /// Where a trial lies; nil where the catalog does not know it.
  public func position(robot: String, trialID: String) throws -> LogPosition? {
    try self.read {
      // Asked twice for each trial that is stored: the statement is kept, and no more is read than this.
      let statement = try $0.cachedStatement(
        sql: "SELECT file, offset, length FROM trial WHERE robot = ? AND trialID = ?")
      return try Row.fetchOne(statement, arguments: [robot, trialID])?.position()
    }
  }

  /// Adds trials that are in the log, and what is now in its files; a trial that is known already is left as it is.
  /// - Parameters:
  ///   - lost: trials that are not where they were said to be; forgotten first, so that one which was stored again is
  ///     added at its new place.
  ///   - counters: what they have come to.
  func add(
    _ rows: [TrialRow], files: [TrialLog.FileState],
    dropping lost: [(name: TrialName, position: LogPosition)] = [], counters: [String: Int] = [:]
  ) throws {
    try self.write { database in
      try Self.drop(lost, from: database)
      for row in rows { try row.insert(database, onConflict: .ignore) }
      for file in files {
        try database.execute(
          sql: "INSERT OR REPLACE INTO logFile VALUES (?, ?, ?)",
          arguments: [file.name, file.bytes, file.chunks])
      }
      for (name, value) in counters {
        try database.execute(sql: "INSERT OR REPLACE INTO counter VALUES (?, ?)", arguments: [name, value])
      }
    }
  }

  /// Trials of a query, in the order they were stored or the latest first. One that cannot be read any more is left out.
  /// - Parameters:
  ///   - limit: trials of one page, 1 … ``maximumPage``; a larger one is cut down. Fewer where they are large.
  ///   - after: `token` of the last page of the same query and order; nil for the first.
  /// - Throws: ``TrialsError`` `.invalid` where the token is none.
  public func trials(
    _ query: TrialQuery, limit: Int, after: String?, newestFirst: Bool = false
  ) async throws -> (trials: [TrialSummary], token: String?) {
    let last = try after.map { text in
      guard let number = Int64(text), number >= 0 else {
        throw TrialsError(.invalid, "'\(text)' is no page token; pass the last answer's, or none.")
      }
      return number
    }
    let limit = min(max(1, limit), Self.maximumPage)
    let (sql, arguments) = query.condition
    let (comparison, order) = newestFirst ? ("<", "DESC") : (">", "ASC")
    let page = try await self.answer { database in
      let rows = try Row.fetchCursor(
        database,
        sql: "SELECT * FROM trial WHERE number \(comparison) ? AND \(sql) ORDER BY number \(order) LIMIT ?",
        arguments: [last ?? (newestFirst ? .max : 0)] + arguments + [limit])
      var damage: (any Error)?
      var trials: [TrialSummary] = []
      var (count, bytes, next) = (0, 0, Int64(0))
      while bytes < Self.maximumPageBytes, let row = try rows.next() {
        count += 1
        next = try row.value("number")
        do {
          let summary = try TrialRow(row: row).summary(&damage)
          bytes += summary.serializedSize
          trials.append(summary)
        } catch {
          damage = error
        }
      }
      var isFull = count == limit || bytes >= Self.maximumPageBytes
      // What bytes may unpack to is bounded too. One alone can be read.
      while trials.count > 1, TrialLimits.readable(ListTrialsResponse(trials: trials)) == nil {
        trials.removeLast(trials.count / 2)
        (next, isFull) = (Int64(clamping: trials[trials.count - 1].number), true)
      }
      return (trials: trials, token: isFull ? "\(next)" : nil, damage: damage)
    }
    if let damage = page.damage { self.mark(damage) }
    return (page.trials, page.token)
  }

  /// Outcomes by task, version, robot, mode and release. Where these are more than one message holds, each robot's largest cells
  /// keep their names, as many of each robot, and the others are counted together, as ``OutcomeCells/others``.
  public func outcomes(_ query: TrialQuery) async throws -> [OutcomeCount] {
    let (sql, arguments) = query.condition
    return try await self.answer { database in
      let rows = try Row.fetchCursor(
        database,
        sql: """
          WITH cell AS (
            SELECT task, modelVersion, robot, mode, releaseID, SUM(outcome = 1) AS successes,
                   SUM(outcome IN (1, 2)) AS trials, SUM(outcome = 3) AS aborted, COUNT(*) AS stored
            FROM trial WHERE \(sql) GROUP BY task, modelVersion, robot, mode, releaseID)
          SELECT *, ROW_NUMBER() OVER (
            PARTITION BY robot ORDER BY stored DESC, task, modelVersion, mode, releaseID) AS place
          FROM cell ORDER BY place, robot
          """, arguments: arguments)
      var cells = OutcomeCells(room: Self.maximumPageBytes)
      while let row = try rows.next() {
        cells.add(
          OutcomeCount(
            task: try row.value("task"), modelVersion: try row.value("modelVersion"),
            robot: try row.value("robot"), mode: ControlMode(rawValue: try row.value("mode")),
            successes: UInt64(try row.count("successes")), trials: UInt64(try row.count("trials")),
            aborted: UInt64(try row.count("aborted")), releaseID: try row.value("releaseID")))
      }
      func key(_ cell: OutcomeCount) -> (String, String, String, Int32, String) {
        (cell.task, cell.modelVersion, cell.robot, cell.mode.rawValue, cell.releaseID)
      }
      return cells.readable().sorted { key($0) < key($1) }
    }
  }

  /// Stored trials in all, and quarantined ones by their first reason.
  public func totals() async throws -> (stored: Int, quarantined: [String: Int]) {
    try await self.answer { database in
      let stored = try Int.fetchOne(database, sql: "SELECT COUNT(*) FROM trial WHERE NOT quarantined") ?? 0
      let reasons = try String.fetchAll(database, sql: "SELECT reasons FROM trial WHERE quarantined")
      let first = reasons.map { String($0.prefix { $0 != "," }) }
      return (stored, Dictionary(first.map { ($0, 1) }, uniquingKeysWith: +))
    }
  }

  /// What a snapshot of a query consists of: trials by robot and id, and how much they are.
  func selection(of query: TrialQuery) async throws -> (names: [TrialName], snapshot: DatasetSnapshot) {
    let (sql, arguments) = query.condition
    return try await self.answer { database in
      var names: [TrialName] = []
      var tasks: [String: UInt64] = [:]
      var snapshot = DatasetSnapshot(query: query)
      let rows = try Row.fetchCursor(
        database,
        sql: "SELECT robot, trialID, task, steps, bytes FROM trial WHERE \(sql) ORDER BY robot, trialID",
        arguments: arguments)
      while let row = try rows.next() {
        let (robot, trialID) = try row.trialName()
        names.append(TrialName(robot: robot, trialID: trialID))
        snapshot.trials += 1
        snapshot.steps += UInt64(try row.count("steps"))
        snapshot.bytes += UInt64(try row.count("bytes"))
        tasks[try row.value("task"), default: 0] += 1
      }
      let largest = tasks.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
      let named = largest.prefix(Self.maximumTasks)
      snapshot.trialsPerTask = Dictionary(named.map { ($0.key, $0.value) }) { $0 + $1 }
      if named.count < largest.count {
        snapshot.trialsPerTask[OutcomeCells.others, default: 0] += largest[named.count...].reduce(0) {
          $0 + $1.value
        }
      }
      return (names, snapshot)
    }
  }

  /// Snapshots that an earlier version kept in the catalog: name, serialized description, and trials' keys, one a line.
  func oldSnapshots() throws -> [(id: String, description: [UInt8], keys: String)] {
    try self.read { database in
      guard try database.tableExists("snapshot") else { return [] }
      return try Row.fetchAll(database, sql: "SELECT id, description, keys FROM snapshot").map {
        (try $0.value("id"), [UInt8](try $0.value("description", as: Data.self)), try $0.value("keys"))
      }
    }
  }

  /// Lets go of them, once they are durable elsewhere.
  func dropOldSnapshots() throws {
    guard try self.read({ try $0.tableExists("snapshot") }) else { return }
    try self.write { try $0.drop(table: "snapshot") }
  }

  // MARK: Log files

  /// What the catalog has last seen of each log file. It trusts files that are still as long as then.
  func files() throws -> [String: TrialLog.FileState] {
    try self.read { database in
      let states = try Row.fetchAll(database, sql: "SELECT name, bytes, chunks FROM logFile").map {
        TrialLog.FileState(
          name: try $0.value("name"), bytes: try $0.value("bytes"), chunks: try $0.value("chunks"))
      }
      return Dictionary(states.map { ($0.name, $0) }) { first, _ in first }
    }
  }

  /// Trials that the log holds more often than the catalog: each was stored twice.
  func duplicates() async throws -> Int {
    try await self.answer { database in
      let chunks = try Int.fetchOne(database, sql: "SELECT SUM(chunks) FROM logFile") ?? 0
      return max(0, chunks - (try Int.fetchOne(database, sql: "SELECT COUNT(*) FROM trial") ?? 0))
    }
  }

  /// Trials that are said to begin in a part of a file, by their place.
  func places(in file: String, from start: Int = 0, until end: Int = .max) throws -> [(
    name: TrialName, position: LogPosition
  )] {
    try self.read { database in
      try Row.fetchAll(
        database,
        sql: """
          SELECT robot, trialID, "offset", length FROM trial WHERE file = ? AND "offset" >= ? AND "offset" < ?
          ORDER BY "offset"
          """, arguments: [file, start, end]
      ).map {
        let (robot, trialID) = try $0.trialName()
        return (TrialName(robot: robot, trialID: trialID), try $0.position(in: file))
      }
    }
  }

  /// Forgets trials that are not where they were said to be: the next sending of each is stored again.
  func drop(_ trials: [(name: TrialName, position: LogPosition)]) throws {
    guard !trials.isEmpty else { return }
    try self.write { try Self.drop(trials, from: $0) }
  }

  private static func drop(_ trials: [(name: TrialName, position: LogPosition)], from database: Database)
    throws
  {
    for (name, position) in trials {
      try database.execute(
        sql: "DELETE FROM trial WHERE robot = ? AND trialID = ? AND file = ? AND \"offset\" = ?",
        arguments: [name.robot, name.trialID, position.file, position.offset])
      guard database.changesCount > 0 else { continue }
      try database.execute(
        sql: "UPDATE logFile SET chunks = chunks - 1 WHERE name = ?", arguments: [position.file])
    }
  }

  /// Forgets a file that is gone, once nothing points into it.
  func forget(file: String) throws {
    try self.write { try $0.execute(sql: "DELETE FROM logFile WHERE name = ?", arguments: [file]) }
  }

  // MARK: Counters

  /// All counters as they were last written.
  func counters() throws -> [String: Int] {
    try self.read { database in
      let rows = try Row.fetchAll(database, sql: "SELECT name, value FROM counter")
      let values = try rows.map {
        (try $0.value("name", as: String.self), try $0.value("value", as: Int.self))
      }
      return Dictionary(values) { first, _ in first }
    }
  }
}
