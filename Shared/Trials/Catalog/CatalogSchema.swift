import GRDB

/// Tables of the catalog.
enum CatalogSchema {
  static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { database in
      try database.create(table: "trial") { table in
        Self.columns(of: table)
        table.primaryKey(["robot", "trialID"])
      }
      try database.create(table: "counter") { table in
        table.column("name", .text).primaryKey()
        table.column("value", .integer).notNull()
      }
    }
    // Numbers that are never given twice, and what the catalog knows of each log file. Table `snapshot` of earlier versions stays
    // until the store has made files of what is in it.
    migrator.registerMigration("2") { database in
      try database.execute(sql: "ALTER TABLE trial RENAME TO trialBefore")
      try database.create(table: "trial") { table in
        table.autoIncrementedPrimaryKey("number")
        Self.columns(of: table)
        table.uniqueKey(["robot", "trialID"])
      }
      let names = Self.text + Self.integers + ["quarantined", "header", "end"]
      let list = names.map { "\"\($0)\"" }.joined(separator: ",")
      try database.execute(
        sql: "INSERT INTO trial (\(list)) SELECT \(list) FROM trialBefore ORDER BY rowid")
      try database.execute(sql: "DROP TABLE trialBefore")
      try database.create(index: "trialByTask", on: "trial", columns: ["task", "modelVersion"])
      try database.create(index: "trialByOrder", on: "trial", columns: ["orderID"])
      try database.create(index: "trialByFile", on: "trial", columns: ["file", "offset"])
      try database.create(table: "logFile") { table in
        table.column("name", .text).primaryKey()
        table.column("bytes", .integer).notNull()
        table.column("chunks", .integer).notNull()
      }
      // No file has -1 bytes: each is held against its rows once.
      try database.execute(
        sql: "INSERT INTO logFile SELECT file, -1, COUNT(*) FROM trial GROUP BY file")
    }
    return migrator
  }

  private static let text = [
    "robot", "trialID", "facility", "task", "modelVersion", "releaseID", "orderID", "reasons", "file",
  ]
  private static let integers = [
    "mode", "outcome", "storedUnixNanos", "steps", "labelledSteps", "fallbackSteps", "bytes", "offset",
    "length",
  ]

  private static func columns(of table: TableDefinition) {
    for name in Self.text { table.column(name, .text).notNull() }
    for name in Self.integers { table.column(name, .integer).notNull() }
    table.column("quarantined", .boolean).notNull()
    table.column("header", .blob).notNull()
    table.column("end", .blob).notNull()
  }
}
