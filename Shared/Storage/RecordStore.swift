import Foundation
import GRDB

/// A service's state as records in an SQLite file: tables of an id and a record, written in transactions.
///
/// WAL with synchronous FULL: a transaction that returned is on the disk. The process that opened it owns the folder.
public final class RecordStore: Sendable {
  /// What one transaction does, gathered before the database is touched.
  public struct Changes: Sendable {
    fileprivate enum Content { case text(String), bytes(Data) }
    fileprivate var list: [(table: String, id: String, content: Content?)] = []

    public init() {}

    public var isEmpty: Bool { self.list.isEmpty }

    /// A record as JSON, which a person can read with `sqlite3`.
    public mutating func put(_ record: some Encodable, id: String, in table: String) throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      let text = String(decoding: try encoder.encode(record), as: UTF8.self)
      self.list.append((table, id, .text(text)))
    }

    /// A record as bytes, for what has an encoding of its own.
    public mutating func put(_ bytes: [UInt8], id: String, in table: String) {
      self.list.append((table, id, .bytes(Data(bytes))))
    }

    public mutating func delete(_ id: String, in table: String) { self.list.append((table, id, nil)) }

    /// What makes a table that holds the old records hold the new ones.
    public mutating func replace<Record: Encodable & Hashable>(
      _ old: [String: Record], with new: [String: Record], in table: String
    ) throws {
      for (id, record) in new where old[id] != record { try self.put(record, id: id, in: table) }
      for id in old.keys where new[id] == nil { self.delete(id, in: table) }
    }
  }

  /// A record that nobody understands.
  public struct Damage: Sendable, Hashable {
    /// The database's path.
    public let file: String
    public let table: String
    public let id: String
    public let why: String

    /// What it is, and what to do about it.
    public var sentence: String {
      "The \(self.table) record '\(self.id)' of \(self.file) cannot be understood (\(self.why)). The service goes on without "
        + "it; it stands in that file's table 'damaged'. Mend what it told by hand, then delete it there."
    }
  }

  /// Records that were not understood, with the table that each is of.
  private static let asideTable = "damaged"

  private let database: DatabaseQueue
  private let path: String
  private let lock: FolderLock

  /// Opens or makes `folder/NAME.sqlite`.
  /// - Parameters:
  ///   - name: the service's name, also for messages, e.g. "rollout".
  ///   - tables: of one letter-only name each; those that are missing are made.
  /// - Throws: ``StorageError`` `.inUse`, `.fileSystem`, or `.corrupt` where the file is no database; it is left as it is.
  public init(folder: String, name: String, tables: [String]) throws(StorageError) {
    self.lock = try FolderLock(folder: folder, owner: name)
    self.path = "\(folder)/\(name).sqlite"
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.prepareDatabase { try $0.execute(sql: "PRAGMA synchronous = FULL") }
    do {
      self.database = try DatabaseQueue(path: self.path, configuration: configuration)
      try self.database.write { database in
        for table in tables {
          try database.execute(
            sql: """
              CREATE TABLE IF NOT EXISTS \(table) (id TEXT PRIMARY KEY NOT NULL, record ANY NOT NULL) STRICT
              """)
        }
        try database.execute(
          sql: """
            CREATE TABLE IF NOT EXISTS \(Self.asideTable)
              (source TEXT NOT NULL, id TEXT NOT NULL, why TEXT NOT NULL, record ANY) STRICT
            """)
      }
    } catch {
      throw Self.failure("open", self.path, error)
    }
  }

  deinit { try? self.database.close() }

  /// The records that were put as JSON, by id. Those that cannot be understood are set aside; see ``damages()``.
  /// - Throws: ``StorageError`` where the database cannot be read or written.
  public func records<Record: Decodable>(
    _ type: Record.Type = Record.self, in table: String
  ) throws(StorageError) -> [String: Record] {
    let decoder = JSONDecoder()
    return try self.read(table) { try decoder.decode(type, from: Data(try Self.value(String.self, $0).utf8)) }
  }

  /// The records that were put as bytes, by id. Those that cannot be understood are set aside; see ``damages()``.
  /// - Throws: ``StorageError`` where the database cannot be read or written.
  public func records<Record>(
    in table: String, _ decode: ([UInt8]) throws -> Record
  ) throws(StorageError) -> [String: Record] {
    try self.read(table) { try decode([UInt8](try Self.value(Data.self, $0))) }
  }

  /// The records that were set aside, by this process or an earlier one: who runs the service hears of them until they are
  /// deleted from the table `damaged`.
  /// - Throws: ``StorageError``.
  public func damages() throws(StorageError) -> [Damage] {
    do {
      return try self.database.read { database in
        try Row.fetchAll(database, sql: "SELECT source, id, why FROM \(Self.asideTable) ORDER BY rowid").map {
          Damage(file: self.path, table: $0[0], id: $0[1], why: $0[2])
        }
      }
    } catch {
      throw Self.failure("read", self.path, error)
    }
  }

  /// Sets all records of a table aside.
  /// - Throws: ``StorageError``; then nothing was changed.
  public func setAside(_ table: String, why: String) throws(StorageError) {
    let _: [String: Never] = try self.read(table) { _ in throw StorageError(.corrupt, why) }
  }

  private struct NotOfItsType: Error {}

  private static func value<Value: DatabaseValueConvertible>(
    _ type: Value.Type, _ value: DatabaseValue
  ) throws -> Value {
    guard let value = Value.fromDatabaseValue(value) else { throw NotOfItsType() }
    return value
  }

  private func read<Record>(
    _ table: String, _ decode: (DatabaseValue) throws -> Record
  ) throws(StorageError) -> [String: Record] {
    do {
      return try self.database.write { database in
        var records: [String: Record] = [:]
        for row in try Row.fetchAll(database, sql: "SELECT id, record FROM \(table)") {
          // STRICT: an id is a text.
          let id: String = row[0]
          do { records[id] = try decode(row[1]) } catch {
            let why = (error as? StorageError)?.message ?? "\(error)"
            try database.execute(
              sql: """
                INSERT INTO \(Self.asideTable) SELECT ?, id, ?, record FROM \(table) WHERE id = ?
                """,
              arguments: [table, String(why.prefix(500)), id])
            try database.execute(sql: "DELETE FROM \(table) WHERE id = ?", arguments: [id])
          }
        }
        return records
      }
    } catch {
      throw Self.failure("read", self.path, error)
    }
  }

  /// Makes the changes in one transaction, and returns once they are on the disk.
  /// - Throws: ``StorageError``; then nothing was changed.
  public func apply(_ changes: Changes) throws(StorageError) {
    guard !changes.isEmpty else { return }
    do {
      try self.database.write { database in
        for (table, id, content) in changes.list {
          let value: any DatabaseValueConvertible
          switch content {
          case .text(let text): value = text
          case .bytes(let bytes): value = bytes
          case nil:
            try database.execute(sql: "DELETE FROM \(table) WHERE id = ?", arguments: [id])
            continue
          }
          try database.execute(
            sql: """
              INSERT INTO \(table) (id, record) VALUES (?, ?)
              ON CONFLICT (id) DO UPDATE SET record = excluded.record
              """,
            arguments: [id, value])
        }
      }
    } catch {
      throw Self.failure("write", self.path, error)
    }
  }

  private static func failure(_ action: String, _ path: String, _ error: any Error) -> StorageError {
    let isOurs =
      (error as? DatabaseError)?.resultCode != .SQLITE_NOTADB
      && !(error is DecodingError || error is StorageError)
    return StorageError(
      isOurs ? .fileSystem : .corrupt,
      isOurs
        ? "Cannot \(action) the database \(path). Look at the disk; nothing was changed."
        : "\(path) is damaged. Put it aside, or bring back a copy of it; nothing was changed.",
      cause: error)
  }
}
