import Foundation
import GRDB
public import Schemas

/// What is in the trial log, as a database: one process owns it, and it can be made anew from the log.
public final class TrialCatalog: Sendable {
  /// Rows of one page at most.
  public static let maximumPage = 1_000

  private let database: any DatabaseWriter
  private let beforeWriting: @Sendable () throws -> Void

  /// Opens or makes the catalog.
  /// - Parameters:
  ///   - path: of the SQLite file; nil for one in memory that goes with the process.
  ///   - beforeWriting: called in front of every change; what it throws, the change throws. For tests of a disk that fails.
  /// - Throws: ``TrialsError`` `.fileSystem`.
  public init(path: String?, beforeWriting: @escaping @Sendable () throws -> Void = {}) throws {
    self.beforeWriting = beforeWriting
    var configuration = Configuration()
    // Whoever waits for this waits with everybody who stores a trial; what cannot be written now is written later.
    configuration.busyMode = .timeout(0.2)
    configuration.prepareDatabase { database in
      // The log is the truth: a transaction that a power cut takes is found again there.
      try database.execute(sql: "PRAGMA synchronous = NORMAL")
    }
    do {
      // A pool reads while it writes.
      self.database =
        if let path {
          try DatabasePool(path: path, configuration: configuration)
        } else {
          try DatabaseQueue(configuration: configuration)
        }
      try CatalogSchema.migrator.migrate(self.database)
    } catch {
      throw TrialsError(
        .fileSystem,
        "Cannot open the catalog \(path ?? "in memory"). If it is damaged, delete it: it is made anew from the log.",
        cause: error)
    }
  }

  private func write<Result>(_ change: (Database) throws -> Result) throws -> Result {
    try self.beforeWriting()
    return try self.database.write(change)
  }

  // MARK: Trials

  public func contains(robot: String, trialID: String) throws -> Bool {
    try self.position(robot: robot, trialID: trialID) != nil
  }

  /// Where a trial lies; nil where the catalog does not know it.
  public func position(robot: String, trialID: String) throws -> LogPosition? {
    try self.database.read {
      // Asked twice for each trial that is stored: the statement is kept, and no more is read than this.
      let statement = try $0.cachedStatement(
        sql: "SELECT file, offset, length FROM trial WHERE robot = ? AND trialID = ?")
      return try Row.fetchOne(statement, arguments: [robot, trialID]).map {
        LogPosition(file: $0[0], offset: $0[1], length: $0[2])
      }
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

  /// Trials of a query, in the order they were stored or the latest first.
  /// - Parameters:
  ///   - limit: trials of one page, 1 … ``maximumPage``; a larger one is cut down.
  ///   - after: `token` of the last page of the same query and order; nil for the first.
  /// - Throws: ``TrialsError`` `.invalid` where the token is none.
  public func trials(
    _ query: TrialQuery, limit: Int, after: String?, newestFirst: Bool = false
  ) throws -> (trials: [TrialSummary], token: String?) {
    let last = try after.map { text in
      guard let number = Int64(text), number >= 0 else {
        throw TrialsError(.invalid, "'\(text)' is no page token; pass the last answer's, or none.")
      }
      return number
    }
    let limit = min(max(1, limit), Self.maximumPage)
    let (sql, arguments) = query.condition
    let (comparison, order) = newestFirst ? ("<", "DESC") : (">", "ASC")
    return try self.database.read { database in
      let rows = try TrialRow.fetchAll(
        database,
        sql: "SELECT * FROM trial WHERE number \(comparison) ? AND \(sql) ORDER BY number \(order) LIMIT ?",
        arguments: [last ?? (newestFirst ? .max : 0)] + arguments + [limit])
      return (
        try rows.map { try $0.summary() },
        rows.count == limit ? rows.last?.number.map { "\($0)" } : nil
      )
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

  /// What a snapshot of a query consists of: trials by robot and id, and how much they are.
  func selection(of query: TrialQuery) throws -> (names: [TrialName], snapshot: DatasetSnapshot) {
    let (sql, arguments) = query.condition
    return try self.database.read { database in
      var names: [TrialName] = []
      var snapshot = DatasetSnapshot(query: query)
      let rows = try Row.fetchCursor(
        database,
        sql: "SELECT robot, trialID, task, steps, bytes FROM trial WHERE \(sql) ORDER BY robot, trialID",
        arguments: arguments)
      while let row = try rows.next() {
        names.append(TrialName(robot: row["robot"], trialID: row["trialID"]))
        snapshot.trials += 1
        snapshot.steps += UInt64(row["steps"] as Int)
        snapshot.bytes += UInt64(row["bytes"] as Int)
        snapshot.trialsPerTask[row["task"], default: 0] += 1
      }
      return (names, snapshot)
    }
  }

  /// Snapshots that an earlier version kept in the catalog: name, serialized description, and trials' keys, one a line.
  func oldSnapshots() throws -> [(id: String, description: [UInt8], keys: String)] {
    try self.database.read { database in
      guard try database.tableExists("snapshot") else { return [] }
      return try Row.fetchAll(database, sql: "SELECT id, description, keys FROM snapshot").map {
        ($0["id"], [UInt8]($0["description"] as Data), $0["keys"])
      }
    }
  }

  /// Lets go of them, once they are durable elsewhere.
  func dropOldSnapshots() throws {
    guard try self.database.read({ try $0.tableExists("snapshot") }) else { return }
    try self.write { try $0.drop(table: "snapshot") }
  }

  // MARK: Log files

  /// What the catalog has last seen of each log file. It trusts files that are still as long as then.
  func files() throws -> [String: TrialLog.FileState] {
    try self.database.read { database in
      let states = try Row.fetchAll(database, sql: "SELECT name, bytes, chunks FROM logFile").map {
        TrialLog.FileState(name: $0["name"], bytes: $0["bytes"], chunks: $0["chunks"])
      }
      return Dictionary(uniqueKeysWithValues: states.map { ($0.name, $0) })
    }
  }

  /// Trials that the log holds more often than the catalog: each was stored twice.
  func duplicates() throws -> Int {
    try self.database.read { database in
      let chunks = try Int.fetchOne(database, sql: "SELECT SUM(chunks) FROM logFile") ?? 0
      return max(0, chunks - (try Int.fetchOne(database, sql: "SELECT COUNT(*) FROM trial") ?? 0))
    }
  }

  /// Trials that are said to begin in a part of a file, by their place.
  func places(in file: String, from start: Int = 0, until end: Int = .max) throws -> [(
    name: TrialName, position: LogPosition
  )] {
    try self.database.read { database in
      try Row.fetchAll(
        database,
        sql: """
          SELECT robot, trialID, "offset", length FROM trial WHERE file = ? AND "offset" >= ? AND "offset" < ?
          ORDER BY "offset"
          """, arguments: [file, start, end]
      ).map {
        (
          TrialName(robot: $0["robot"], trialID: $0["trialID"]),
          LogPosition(file: file, offset: $0["offset"], length: $0["length"])
        )
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
    try self.database.read { database in
      let rows = try Row.fetchAll(database, sql: "SELECT name, value FROM counter")
      return Dictionary(uniqueKeysWithValues: rows.map { ($0["name"], $0["value"]) })
    }
  }
}
