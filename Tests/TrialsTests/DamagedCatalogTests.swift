import Foundation
import GRDB
import Schemas
import Storage
import Synchronization
import Testing

@testable import Trials

/// A catalog in which something is not what it was.
@Suite("TrialCatalog, damaged")
struct DamagedCatalogTests {
  private typealias Recovery = StoreRecoveryTests

  /// Each is met at the start.
  @Test(arguments: [
    "UPDATE trial SET \"offset\" = 'x' WHERE trialID = 't-1'",
    "UPDATE trial SET length = x'00' WHERE trialID = 't-1'",
    "UPDATE trial SET \"offset\" = 1e300 WHERE trialID = 't-1'", "UPDATE logFile SET bytes = 'x'",
    "UPDATE logFile SET chunks = 'x'", "UPDATE logFile SET name = x'ff'",
    "INSERT INTO counter VALUES ('refused', 'many')", "INSERT INTO counter VALUES (x'ff', 1)",
    "UPDATE grdb_migrations SET identifier = x'ff' WHERE identifier = '1'",
    "UPDATE trial SET file = x'ff' WHERE trialID = 't-1'",
    "UPDATE trial SET trialID = x'ff' WHERE trialID = 't-1'",
    "UPDATE logFile SET chunks = 1e300, bytes = -1", "UPDATE trial SET robot = x'ff' WHERE trialID = 't-1'",
  ])
  func `a value of another type costs the catalog and no trial`(sql: String) async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      try await Recovery.closed(folder)
      try Self.execute(sql, in: folder)
      try await Self.expectMadeAnew(folder, holding: 0..<4)
    }
  }

  @Test func `a value of another type that is met at work ends nothing, and costs the catalog`() async throws
  {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      do {
        let told = Recovery.Told()
        let store = try await Recovery.reopen(folder, told)
        try Self.execute("UPDATE trial SET length = 'x' WHERE trialID = 't-1'", in: folder)
        let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
        #expect(error?.code == .catalog)
        // Its robot keeps it; nobody else is troubled.
        let refused = Task { try await store.store(Recovery.trial(1)) }
        #expect(try await store.store(Recovery.trial(5)) == .stored)
        await #expect(throws: TrialsError.self) { try await refused.value }
        #expect(try await Recovery.ids(store) == ["t-0", "t-2", "t-3", "t-5"])
        try Self.execute("UPDATE trial SET steps = 'x' WHERE trialID = 't-2'", in: folder)
        await #expect(throws: TrialsError.self) { try await store.createSnapshot(.init()) }
        await store.flushCounters()
        // That it is damaged, and that it was made anew.
        #expect(told.damagedCatalogs == 2)
        #expect(try await Recovery.ids(store) == [0, 1, 2, 3, 5].map { "t-\($0)" })
        #expect(try await store.store(Recovery.trial(1)) == .duplicate)
      }
      try await Recovery.unowned(folder)
      #expect(try Self.putAside(folder) == 1)
    }
  }

  /// Its file, under a store that works.
  @Test func `a catalog that is damaged at work is made anew, and trials go on being stored`() async throws {
    try await withTemporaryFolder { folder in
      var configuration = TrialStore.Configuration()
      configuration.maximumUncatalogued = 4
      do {
        let told = Recovery.Told()
        let store = try await Recovery.reopen(folder, told, configuration)
        for index in 0..<4 { #expect(try await store.store(Recovery.trial(index)) == .stored) }
        for _ in 0..<3 { store.count("refused") }
        await store.flushCounters()
        try Self.scramble(folder)
        // Their robots keep what is not taken now.
        for index in 4..<20 { _ = try? await store.store(Recovery.trial(index)) }
        await store.flushCounters()
        for index in 4..<20 {
          let verdict = try await store.store(Recovery.trial(index))
          #expect(verdict == .stored || verdict == .duplicate)
        }
        for index in 0..<20 {
          #expect(try await store.store(Recovery.trial(index)) == .duplicate)
          #expect(try await store.trial(Recovery.name(index)) == Recovery.trial(index))
        }
        #expect(try await Set(Recovery.ids(store)) == Set((0..<20).map { "t-\($0)" }))
        #expect(try await store.usage().duplicates == 0)
        #expect(told.damages.isEmpty)
        // That it is damaged, and that it was made anew.
        #expect(told.damagedCatalogs == 2)
        store.count("refused")
        await store.flushCounters()
      }
      try await Recovery.unowned(folder)
      let told = Recovery.Told()
      let store = try await Recovery.reopen(folder, told)
      #expect(told.damagedCatalogs == 0)
      #expect(store.counter("refused") == 4)
      #expect(try Self.putAside(folder) == 1)
    }
  }

  /// What is not done when the disk fails in the midst of it is done later.
  @Test func `a catalog that cannot be made anew now is made anew later`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      let told = Recovery.Told()
      let store = try TrialStore(
        folder: folder.path, disk: SystemDisk(), runtime: .system,
        catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
          if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
        }, tell: told.add)
      for index in 0..<4 { #expect(try await store.store(Recovery.trial(index)) == .stored) }
      await store.flushCounters()
      try Self.scramble(folder)
      await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(0)) }
      full.withLock { $0 = true }
      await store.flushCounters()
      #expect(told.behind == 1)
      full.withLock { $0 = false }
      await store.flushCounters()
      for index in 0..<4 { #expect(try await store.store(Recovery.trial(index)) == .duplicate) }
      #expect(try await Recovery.ids(store) == (0..<4).map { "t-\($0)" })
      #expect(try Self.putAside(folder) == 1)
    }
  }

  @Test func `a catalog that is no database is made anew`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      try await Recovery.closed(folder)
      try Recovery.removeCatalog(folder)
      try Data(repeating: 7, count: 8_192).write(to: folder.appending(path: "catalog.sqlite"))
      try await Self.expectMadeAnew(folder, holding: 0..<4)
    }
  }

  @Test(arguments: ["header", "end"])
  func
    `a list goes on where what a trial says cannot be decoded, names it, and is whole after the next start`(
      column: String
    ) async throws
  {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      do {
        let store = try await Recovery.reopen(folder, .init())
        try Self.execute("UPDATE trial SET \(column) = x'0aff' WHERE trialID = 't-1'", in: folder)
        let trials = try await store.catalog.trials(.init(), limit: 100, after: nil).trials
        #expect(trials.compactMap { $0.header?.trialID } == (0..<4).map { "t-\($0)" })
        #expect(trials.map(\.reasons) == [[], [TrialRow.unreadable], [], []])
        #expect(trials[1].header?.task == trials[0].header?.task)
        #expect(trials[1].end?.outcome == .success)
      }
      try await Self.expectMadeAnew(folder, holding: 0..<4)
    }
  }

  /// Opens the store, which puts the catalog aside and makes another from the log.
  private static func expectMadeAnew(_ folder: URL, holding indices: some Sequence<Int>) async throws {
    try await Recovery.unowned(folder)
    let told = Recovery.Told()
    let store = try await Recovery.reopen(folder, told)
    #expect(told.damagedCatalogs == 1)
    #expect(told.damages.isEmpty)
    #expect(try await Recovery.ids(store) == indices.map { "t-\($0)" })
    let trials = try await store.catalog.trials(.init(), limit: 100, after: nil).trials
    #expect(trials.allSatisfy { $0.reasons.isEmpty })
    for index in indices { #expect(try await store.store(Recovery.trial(index)) == .duplicate) }
    #expect(try await store.usage().duplicates == 0)
    #expect(try Self.putAside(folder) == 1)
  }

  /// Catalogs that were put aside.
  private static func putAside(_ folder: URL) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: folder.path)
      .count { $0.wholeMatch(of: /catalog\.sqlite\.damaged-[0-9]+/) != nil }
  }

  /// Writes over all of the catalog but its first page, which says what tables there are.
  private static func scramble(_ folder: URL) throws {
    let url = folder.appending(path: "catalog.sqlite")
    let database = try DatabaseQueue(path: url.path)
    try database.writeWithoutTransaction {
      // Whoever has it open reads it anew.
      try $0.execute(sql: "INSERT OR REPLACE INTO counter VALUES ('other', 1)")
      try $0.checkpoint(.truncate)
    }
    try database.close()
    let file = try FileHandle(forWritingTo: url)
    defer { try? file.close() }
    let end = try file.seekToEnd()
    try file.seek(toOffset: 4_096)
    try file.write(contentsOf: Data(repeating: 7, count: Int(end) - 4_096))
  }

  /// Changes the catalog behind its owner's back.
  private static func execute(_ sql: String, in folder: URL) throws {
    let database = try DatabaseQueue(path: folder.appending(path: "catalog.sqlite").path)
    try database.write { try $0.execute(sql: sql) }
    try database.close()
  }
}
