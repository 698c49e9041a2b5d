import Crypto
import Foundation
import GRDB
public import Schemas

/// What is in the trial log, as a database: one process owns it, and it can be made anew from the log.
public final class TrialCatalog: Sendable {
  /// Rows of one page at most.
  public static let maximumPage = 1_000

  private let database: DatabaseQueue

  /// Opens or makes the catalog.
  /// - Parameter path: of the SQLite file.
  public init(path: String) throws {
    var configuration = Configuration()
    configuration.busyMode = .timeout(5)
    configuration.prepareDatabase { database in
      try database.execute(sql: "PRAGMA journal_mode = WAL")
      // The log is the truth: a transaction that a power cut takes is found again there.
      try database.execute(sql: "PRAGMA synchronous = NORMAL")
    }
    do {
      self.database = try DatabaseQueue(path: path, configuration: configuration)
      try Self.migrator.migrate(self.database)
    } catch {
      throw TrialsError(
        .fileSystem,
        "Cannot open the catalog \(path). If it is damaged, delete it: it is made anew from the log.",
        cause: error)
    }
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { database in
      try database.create(table: "trial") { table in
        table.column("robot", .text).notNull()
        table.column("trialID", .text).notNull()
        for name in ["facility", "task", "modelVersion", "releaseID", "orderID", "reasons", "file"] {
          table.column(name, .text).notNull()
        }
        for name in [
          "mode", "outcome", "storedUnixNanos", "steps", "labelledSteps", "fallbackSteps", "bytes", "offset",
          "length",
        ] { table.column(name, .integer).notNull() }
        table.column("quarantined", .boolean).notNull()
        table.column("header", .blob).notNull()
        table.column("end", .blob).notNull()
        table.primaryKey(["robot", "trialID"])
      }
      try database.create(index: "trialByTask", on: "trial", columns: ["task", "modelVersion"])
      try database.create(index: "trialByOrder", on: "trial", columns: ["orderID"])
      try database.create(index: "trialByFile", on: "trial", columns: ["file", "offset"])
      try database.create(table: "snapshot") { table in
        table.column("id", .text).primaryKey()
        table.column("description", .blob).notNull()
        // Trial keys, one a line, sorted: "robot/trial".
        table.column("keys", .text).notNull()
      }
      try database.create(table: "counter") { table in
        table.column("name", .text).primaryKey()
        table.column("value", .integer).notNull()
      }
    }
    return migrator
  }

  // MARK: Trials

  public func contains(robot: String, trialID: String) throws -> Bool {
    try self.database.read { database in
      try TrialRow.exists(database, key: ["robot": robot, "trialID": trialID])
    }
  }

  /// Adds trials that are in the log; one that is known already is left as it is.
  /// - Returns: for each, whether it was new.
  @discardableResult
  public func add(
    _ trials: [(trial: TrialRecord, position: LogPosition, reasons: [QualityReason])], storedUnixNanos: Int64
  ) throws -> [Bool] {
    try self.database.write { database in
      try trials.map { entry in
        let row = TrialRow(
          entry.trial, position: entry.position, reasons: entry.reasons, storedUnixNanos: storedUnixNanos)
        try row.insert(database, onConflict: .ignore)
        return database.changesCount > 0
      }
    }
  }

  /// The end of the last chunk of each log file that the catalog knows.
  public func knownEnds() throws -> [String: Int] {
    try self.database.read { database in
      let rows = try Row.fetchAll(
        database, sql: "SELECT file, MAX(offset + length) AS last FROM trial GROUP BY file")
      return Dictionary(uniqueKeysWithValues: rows.map { ($0["file"] as String, $0["last"] as Int) })
    }
  }

  public func position(robot: String, trialID: String) throws -> LogPosition? {
    try self.database.read {
      try TrialRow.fetchOne($0, key: ["robot": robot, "trialID": trialID])?.position
    }
  }

  /// Trials of a query, in the order they were stored.
  /// - Parameters:
  ///   - after: `token` of the last page; nil for the first.
  public func trials(
    _ query: TrialQuery, limit: Int, after: String?
  ) throws -> (trials: [TrialSummary], token: String?) {
    let offset = try after.map { text in
      guard let number = Int(text), number >= 0 else {
        throw TrialsError(.invalid, "'\(text)' is no page token; pass the last answer's, or none.")
      }
      return number
    }
    let limit = min(max(1, limit), Self.maximumPage)
    let (sql, arguments) = query.condition
    return try self.database.read { database in
      let rows = try SQLRequest<RowWithID>(
        sql: "SELECT rowid AS number, * FROM trial WHERE rowid > ? AND \(sql) ORDER BY rowid LIMIT ?",
        arguments: [offset ?? 0] + arguments + [limit]
      ).fetchAll(database)
      return (
        try rows.map { try $0.row.summary() }, rows.count == limit ? rows.last.map { "\($0.number)" } : nil
      )
    }
  }

  private struct RowWithID: FetchableRecord {
    var number: Int64
    var row: TrialRow

    init(row: Row) throws {
      self.number = row["number"]
      self.row = try TrialRow(row: row)
    }
  }

  /// Outcomes by task, version, robot, mode and release.
  public func outcomes(_ query: TrialQuery) throws -> [OutcomeCount] {
    let (sql, arguments) = query.condition
    return try self.database.read { database in
      try Row.fetchAll(
        database,
        sql: """
          SELECT task, modelVersion, robot, mode, releaseID, SUM(outcome = 1) AS successes,
                 SUM(outcome IN (1, 2)) AS trials, SUM(outcome = 3) AS aborted
          FROM trial WHERE \(sql) GROUP BY task, modelVersion, robot, mode, releaseID
          ORDER BY task, modelVersion, robot, mode, releaseID
          """, arguments: arguments
      ).map { row in
        OutcomeCount(
          task: row["task"], modelVersion: row["modelVersion"], robot: row["robot"],
          mode: ControlMode(rawValue: row["mode"]), successes: UInt64(row["successes"] as Int),
          trials: UInt64(row["trials"] as Int), aborted: UInt64(row["aborted"] as Int),
          releaseID: row["releaseID"])
      }
    }
  }

  /// Stored trials in all, and quarantined ones by their first reason.
  public func totals() throws -> (stored: Int, quarantined: [String: Int]) {
    try self.database.read { database in
      let stored = try Int.fetchOne(database, sql: "SELECT COUNT(*) FROM trial WHERE NOT quarantined") ?? 0
      let reasons = try String.fetchAll(database, sql: "SELECT reasons FROM trial WHERE quarantined")
      let first = reasons.map { String($0.prefix { $0 != "," }) }
      return (stored, Dictionary(first.map { ($0, 1) }, uniquingKeysWith: +))
    }
  }

  // MARK: Snapshots

  /// Fixes the trials of a query under a name that depends on nothing but the trials.
  public func createSnapshot(_ query: TrialQuery, nowUnixNanos: Int64) throws -> DatasetSnapshot {
    let (sql, arguments) = query.condition
    return try self.database.write { database in
      let rows = try TrialRow.fetchAll(
        database, sql: "SELECT * FROM trial WHERE \(sql) ORDER BY robot, trialID", arguments: arguments)
      let keys = rows.map { "\($0.robot)/\($0.trialID)" }.joined(separator: "\n")
      let digest = SHA256.hash(data: Data(keys.utf8)).prefix(8)
      var id = ""
      for byte in digest { id += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16) }
      let snapshot = DatasetSnapshot(
        snapshotID: id, query: query, trials: UInt64(rows.count),
        steps: UInt64(rows.reduce(0) { $0 + $1.steps }),
        bytes: UInt64(rows.reduce(0) { $0 + $1.bytes }), createdUnixNanos: nowUnixNanos,
        trialsPerTask: Dictionary(rows.map { ($0.task, 1) }, uniquingKeysWith: +))
      try database.execute(
        sql: "INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)",
        arguments: [id, Data(snapshot.serializedBytes()), keys])
      return snapshot
    }
  }

  /// Where the trials of a snapshot lie, in the snapshot's order.
  public func positions(ofSnapshot id: String) throws -> [LogPosition] {
    try self.database.read { database in
      guard
        let keys = try String.fetchOne(
          database, sql: "SELECT keys FROM snapshot WHERE id = ?", arguments: [id])
      else { throw TrialsError(.notFound, "No snapshot is called '\(id)'; make one with CreateSnapshot.") }
      return try keys.split(separator: "\n").map { key in
        let parts = key.split(separator: "/", maxSplits: 1).map(String.init)
        guard let row = try TrialRow.fetchOne(database, key: ["robot": parts[0], "trialID": parts[1]]) else {
          throw TrialsError(.notFound, "Trial \(key) of snapshot \(id) is not in the catalog.")
        }
        return row.position
      }
    }
  }

  // MARK: Counters

  public func increment(_ name: String, by amount: Int = 1) throws {
    try self.database.write {
      try $0.execute(
        sql:
          "INSERT INTO counter VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
        arguments: [name, amount])
    }
  }

  public func counter(_ name: String) throws -> Int {
    try self.database.read {
      try Int.fetchOne($0, sql: "SELECT value FROM counter WHERE name = ?", arguments: [name]) ?? 0
    }
  }
}
