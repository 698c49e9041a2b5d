import Foundation
import GRDB
import Schemas
import Testing

@testable import Trials

/// What becomes of a catalog that an earlier version made.
@Suite("TrialCatalog, upgraded")
struct CatalogUpgradeTests {
  @Test func `snapshots of a catalog of version 1 are still there after the upgrade`() async throws {
    try await withTemporaryFolder { folder in
      try Self.makeVersion1(folder, snapshot: "0123456789abcdef", keys: "robot-1/t-1\nrobot-2/t/2")
      // The second time from the file alone.
      for _ in 0..<2 {
        let store = try await StoreRecoveryTests.reopen(folder, .init())
        #expect(
          try await store.trials(ofSnapshot: "0123456789abcdef")
            == [StoreRecoveryTests.name(1), TrialName(robot: "robot-2", trialID: "t/2")])
        #expect(try await store.catalog.oldSnapshots().isEmpty)
      }
    }
  }

  /// A catalog as version 1 made it, without trials.
  private static func makeVersion1(_ folder: URL, snapshot id: String, keys: String) throws {
    let database = try DatabaseQueue(path: folder.appending(path: "catalog.sqlite").path)
    let text = [
      "robot", "trialID", "facility", "task", "modelVersion", "releaseID", "orderID", "reasons", "file",
    ]
    let integers = [
      "mode", "outcome", "storedUnixNanos", "steps", "labelledSteps", "fallbackSteps", "bytes", "offset",
      "length", "quarantined",
    ]
    let columns =
      text.map { "\"\($0)\" TEXT NOT NULL" } + integers.map { "\"\($0)\" INTEGER NOT NULL" }
      + ["header", "end"].map { "\"\($0)\" BLOB NOT NULL" }
    try database.write { database in
      try database.execute(
        sql: """
          CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
          INSERT INTO grdb_migrations VALUES ('1');
          CREATE TABLE trial (\(columns.joined(separator: ",")), PRIMARY KEY (robot, trialID));
          CREATE INDEX trialByTask ON trial (task, modelVersion);
          CREATE INDEX trialByOrder ON trial (orderID);
          CREATE INDEX trialByFile ON trial (file, "offset");
          CREATE TABLE snapshot (id TEXT PRIMARY KEY, description BLOB NOT NULL, keys TEXT NOT NULL);
          CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
          """)
      try database.execute(
        sql: "INSERT INTO snapshot VALUES (?, ?, ?)",
        arguments: [id, Data(DatasetSnapshot(snapshotID: id, trials: 2).serializedBytes()), keys])
    }
    try database.close()
  }
}
