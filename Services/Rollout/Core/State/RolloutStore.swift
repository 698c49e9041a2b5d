import Foundation
import GRDB

/// The state in an SQLite file: one row a robot, release and experiment. Written before anything is answered or published.
///
/// WAL with synchronous FULL: a transaction that returned is on the disk. One process owns the file, which a lock ensures.
package final class RolloutStore: Sendable {
  private let database: DatabaseQueue
  private let lock: Int32

  /// Opens or makes `folder/rollout.sqlite`.
  /// - Throws: ``RolloutError`` `.storage` where it cannot be used, `.busy` where another process owns it.
  package init(folder: String) throws(RolloutError) {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw RolloutError(.storage, "Cannot make the folder \(folder): \(error)")
    }
    self.lock = open("\(folder)/rollout.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard self.lock >= 0, flock(self.lock, LOCK_EX | LOCK_NB) == 0 else {
      let reason = String(cString: strerror(errno))
      throw RolloutError(
        .busy, "Another rollout owns \(folder), or it cannot be written: \(reason). End the other one first.")
    }
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = FULL") }
    do {
      self.database = try DatabaseQueue(path: "\(folder)/rollout.sqlite", configuration: configuration)
      try Self.migrator.migrate(self.database)
    } catch {
      throw RolloutError(.storage, "Cannot open \(folder)/rollout.sqlite: \(error)")
    }
  }

  deinit {
    try? self.database.close()
    close(self.lock)
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { database in
      for table in ["robot", "release", "experiment", "fleet"] {
        try database.execute(
          sql: "CREATE TABLE \(table) (id TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL) STRICT")
      }
    }
    return migrator
  }

  private struct Fleet: Codable {
    var placement: Placement
    var count: Int
  }

  package func load() throws(RolloutError) -> RolloutState {
    try self.guarded("read") {
      try self.database.read { database in
        func records<Record: Decodable>(_ table: String) throws -> [String: Record] {
          let rows = try Row.fetchAll(database, sql: "SELECT id, record FROM \(table)")
          return try Dictionary(
            uniqueKeysWithValues: rows.map { row in
              let text: String = row["record"]
              return (row["id"] as String, try JSONDecoder().decode(Record.self, from: Data(text.utf8)))
            })
        }
        var state = RolloutState()
        state.robots = try records("robot")
        state.releases = try records("release")
        state.experiments = try records("experiment")
        let fleet: [String: Fleet] = try records("fleet")
        state.fleet = fleet["fleet"]?.placement ?? .nothing
        state.count = fleet["fleet"]?.count ?? 0
        return state
      }
    }
  }

  /// Writes what differs, in one transaction.
  package func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) {
    try self.guarded("write") {
      try self.database.write { database in
        func write<Record: Codable & Hashable>(
          _ table: String, _ new: [String: Record], _ old: [String: Record]
        ) throws {
          for (id, record) in new where old[id] != record {
            try Self.put(record, id, table, database)
          }
        }
        // When a robot reported last is not worth a sync every few seconds; what it reported is.
        func timeless(_ robots: [String: RobotRecord]) -> [String: RobotRecord] {
          robots.mapValues { robot in
            var robot = robot
            robot.reportedUnixNanos = 0
            return robot
          }
        }
        try write("robot", timeless(new.robots), timeless(old.robots))
        try write("release", new.releases, old.releases)
        try write("experiment", new.experiments, old.experiments)
        if new.fleet != old.fleet || new.count != old.count {
          try Self.put(Fleet(placement: new.fleet, count: new.count), "fleet", "fleet", database)
        }
      }
    }
  }

  private static func put(_ record: some Encodable, _ id: String, _ table: String, _ database: Database)
    throws
  {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let text = String(decoding: try encoder.encode(record), as: UTF8.self)
    try database.execute(
      sql:
        "INSERT INTO \(table) (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
      arguments: [id, text])
  }

  private func guarded<Result>(_ action: String, _ body: () throws -> Result) throws(RolloutError) -> Result {
    do {
      return try body()
    } catch {
      throw RolloutError(
        .storage, "Cannot \(action) the release database: \(error). Look at the disk; nothing was changed.")
    }
  }
}
