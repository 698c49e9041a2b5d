import Foundation
import GRDB
import Schemas

/// The state in an SQLite file. Written before anything is answered or published; one process owns the file.
package final class MonitorStore: Sendable {
  private let database: DatabaseQueue
  private let lock: Int32

  /// Opens or makes `folder/monitor.sqlite`.
  /// - Throws: ``MonitorError`` `.storage` where it cannot be used, `.busy` where another process owns it.
  package init(folder: String) throws(MonitorError) {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw MonitorError(.storage, "Cannot make the folder \(folder): \(error)")
    }
    self.lock = open("\(folder)/monitor.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard self.lock >= 0, flock(self.lock, LOCK_EX | LOCK_NB) == 0 else {
      let reason = String(cString: strerror(errno))
      throw MonitorError(
        .busy, "Another monitor owns \(folder), or it cannot be written: \(reason). End the other one first.")
    }
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = FULL") }
    do {
      self.database = try DatabaseQueue(path: "\(folder)/monitor.sqlite", configuration: configuration)
      try Self.migrator.migrate(self.database)
    } catch {
      throw MonitorError(.storage, "Cannot open \(folder)/monitor.sqlite: \(error)")
    }
  }

  deinit {
    try? self.database.close()
    close(self.lock)
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { database in
      for table in ["robot", "watch", "cursor"] {
        try database.execute(
          sql: "CREATE TABLE \(table) (id TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL) STRICT")
      }
      // The alert as its protobuf message.
      try database.execute(
        sql: "CREATE TABLE alert (id TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT")
    }
    return migrator
  }

  package func load() throws(MonitorError) -> MonitorState {
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
        var state = MonitorState()
        state.robots = try records("robot")
        state.watches = try records("watch")
        let cursor: [String: [Int64]] = try records("cursor")
        state.cursorUnixNanos = cursor["outcomes"]?.first ?? 0
        let alerts = try Data.fetchAll(database, sql: "SELECT record FROM alert")
        state.alerts = AlertBook(alerts: try alerts.map { try Alert(serializedBytes: [UInt8]($0)) })
        return state
      }
    }
  }

  /// Writes what differs, in one transaction.
  package func save(_ new: MonitorState, replacing old: MonitorState) throws(MonitorError) {
    guard
      new.robots != old.robots || new.watches != old.watches || new.alerts != old.alerts
        || new.cursorUnixNanos != old.cursorUnixNanos
    else { return }
    try self.guarded("write") {
      try self.database.write { database in
        for (id, robot) in new.robots where old.robots[id] != robot {
          try Self.put(try Self.text(robot), id, "robot", database)
        }
        for (id, watch) in new.watches where old.watches[id] != watch {
          try Self.put(try Self.text(watch), id, "watch", database)
        }
        for id in old.watches.keys where new.watches[id] == nil { try Self.delete(id, "watch", database) }
        for (id, alert) in new.alerts.alerts where old.alerts.alerts[id] != alert {
          try Self.put(Data(alert.serializedBytes()), id, "alert", database)
        }
        for id in old.alerts.alerts.keys where new.alerts.alerts[id] == nil {
          try Self.delete(id, "alert", database)
        }
        if new.cursorUnixNanos != old.cursorUnixNanos {
          try Self.put(try Self.text([new.cursorUnixNanos]), "outcomes", "cursor", database)
        }
      }
    }
  }

  private static func text(_ record: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(record), as: UTF8.self)
  }

  private static func put(
    _ record: any DatabaseValueConvertible, _ id: String, _ table: String, _ database: Database
  ) throws {
    try database.execute(
      sql:
        "INSERT INTO \(table) (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
      arguments: [id, record])
  }

  private static func delete(_ id: String, _ table: String, _ database: Database) throws {
    try database.execute(sql: "DELETE FROM \(table) WHERE id = ?", arguments: [id])
  }

  private func guarded<Result>(_ action: String, _ body: () throws -> Result) throws(MonitorError) -> Result {
    do {
      return try body()
    } catch {
      throw MonitorError(.storage, "Cannot \(action) the monitor's database: \(error). Look at the disk.")
    }
  }
}
