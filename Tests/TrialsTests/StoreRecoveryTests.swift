import Foundation
import Schemas
import Storage
import Synchronization
import Testing

@testable import Trials

/// What becomes of a store whose files were damaged, lost or restored from a backup.
@Suite("TrialStore, damaged")
struct StoreRecoveryTests {
  @Test func `a flipped byte in the active file costs the trial that it hits and nothing else`() async throws
  {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<12)
      let place = try Self.place("t-5", in: folder)
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      let told = Told()
      let store = try await Self.reopen(folder, told)
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-5"])
      #expect(await store.damages().count == 1)
      #expect(try await Self.ids(store) == (0..<12).filter { $0 != 5 }.map { "t-\($0)" })
      for index in 12..<20 { #expect(try await store.store(Self.trial(index)) == .stored) }
      for index in 0..<20 where index != 5 {
        #expect(try await store.trial(Self.name(index)) == Self.trial(index))
        #expect(try await store.store(Self.trial(index)) == .duplicate)
      }
      await #expect(throws: TrialsError.self) { try await store.trial(Self.name(5)) }
      #expect(try await store.store(Self.trial(5)) == .stored)
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `a flipped byte in a sealed file is found by its reader, who reads on`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<12, fileBytes: 8_000)
      let place = try Self.place("t-1", in: folder)
      #expect(place.file == "trials-00000001.mcap")
      let told = Told()
      let store = try await Self.reopen(folder, told)
      let snapshot = try await store.createSnapshot(.init())
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      var lost: [String] = []
      for name in try await store.trials(ofSnapshot: snapshot.snapshotID) {
        do { _ = try await store.trial(name) } catch { lost.append(name.trialID) }
      }
      #expect(lost == ["t-1"])
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-1"])
      // The robot that still has it is not told that it is stored.
      #expect(try await store.store(Self.trial(1)) == .stored)
      #expect(try await store.trial(Self.name(1)) == Self.trial(1))
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `damage and a lost catalog at once cost one trial and count no duplicates`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<12, fileBytes: 8_000)
      let place = try Self.place("t-1", in: folder)
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      try Self.removeCatalog(folder)
      let told = Told()
      let store = try await Self.reopen(folder, told)
      #expect(try await Self.ids(store) == (0..<12).filter { $0 != 1 }.map { "t-\($0)" })
      #expect(told.damages.map(\.lostUnnamed) == [1])
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `damage of a trial that the catalog never had is told as what may be lost`() async throws {
    try await withTemporaryFolder { folder in
      do {
        let full = Mutex(false)
        let store = try TrialStore(
          folder: folder.path, disk: SystemDisk(), runtime: .system,
          catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
            if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
          })
        #expect(try await store.store(Self.trial(0)) == .stored)
        await store.flushCounters()
        full.withLock { $0 = true }
        #expect(try await store.store(Self.trial(1)) == .stored)
      }
      let place = try Self.place("t-0", in: folder)
      // t-1 is the last in the file.
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + place.length + 600)
      let told = Told()
      let store = try await Self.reopen(folder, told)
      #expect(told.damages.map(\.mayBeTorn) == [true])
      #expect(told.damages.flatMap(\.lost) == [Self.name(1)])
      #expect(try await store.store(Self.trial(0)) == .duplicate)
      #expect(try await store.store(Self.trial(1)) == .stored)
      #expect(try await store.trial(Self.name(1)) == Self.trial(1))
      #expect(try await store.usage().duplicates == 0)
    }
  }

  /// The catalog and the damage book stay: the same places hold other trials then.
  @Test func `damage in a place that was damaged before is told again`() async throws {
    try await withTemporaryFolder { folder in
      let told = Told()
      for round in 0..<2 {
        try await Self.fill(folder, round..<round + 1)
        let place = try Self.place("t-\(round)", in: folder)
        #expect(place.file == "trials-00000001.mcap")
        try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
        _ = try await Self.reopen(folder, told)
        for name in try TrialLog.fileNames(in: folder.appending(path: "log").path) {
          try FileManager.default.removeItem(at: folder.appending(path: "log/\(name)"))
        }
      }
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-0", "t-1"])
    }
  }

  @Test func `a log restored from a backup hides no new trial`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<4)
      let log = folder.appending(path: "log")
      let backup = folder.appending(path: "backup")
      try FileManager.default.copyItem(at: log, to: backup)
      try await Self.fill(folder, 4..<10)
      try FileManager.default.removeItem(at: log)
      try FileManager.default.moveItem(at: backup, to: log)
      let told = Told()
      let store = try await Self.reopen(folder, told)
      #expect(Set(told.damages.flatMap(\.lost).map(\.trialID)) == Set((4..<10).map { "t-\($0)" }))
      #expect(try await Self.ids(store) == (0..<4).map { "t-\($0)" })
      // Offsets are used again, by other trials first.
      for index in [20, 21, 22, 6, 7] { #expect(try await store.store(Self.trial(index)) == .stored) }
      for index in [0, 1, 2, 3, 20, 21, 22, 6, 7] {
        #expect(try await store.trial(Self.name(index)) == Self.trial(index))
      }
    }
  }

  @Test func `a catalog restored from a backup learns what the log has more`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<4, fileBytes: 8_000)
      let catalog = folder.appending(path: "catalog.sqlite")
      try await Self.closed(folder)
      let before = try Data(contentsOf: catalog)
      try await Self.fill(folder, 4..<12, fileBytes: 8_000)
      try Self.removeCatalog(folder)
      try before.write(to: catalog)
      let store = try await Self.reopen(folder, Told())
      #expect(try await Self.ids(store) == (0..<12).map { "t-\($0)" })
      for index in 0..<12 { #expect(try await store.store(Self.trial(index)) == .duplicate) }
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `trials of a file that is gone are dropped, named, and stored again when sent again`()
    async throws
  {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<12, fileBytes: 8_000)
      try FileManager.default.removeItem(at: folder.appending(path: "log/trials-00000001.mcap"))
      let told = Told()
      let store = try await Self.reopen(folder, told)
      let lost = told.damages.flatMap(\.lost).map(\.trialID)
      #expect(!lost.isEmpty)
      #expect(Set(try await Self.ids(store)) == Set((0..<12).map { "t-\($0)" }).subtracting(lost))
      #expect(try await store.store(Self.trial(0)) == .stored)
    }
  }

  @Test func `numbers grow over whatever was dropped`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<4)
      let place = try Self.place("t-3", in: folder)
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      let store = try await Self.reopen(folder, Told())
      #expect(try await store.store(Self.trial(9)) == .stored)
      let numbers = try await store.catalog.trials(.init(), limit: 10, after: nil).trials.map(\.number)
      #expect(numbers == [1, 2, 3, 5])
    }
  }

  @Test func `a reader is never given another trial than the one it asks for`() async throws {
    try await withTemporaryFolder { folder in
      let log = try TrialLog(folder: folder.path)
      let position = try log.append([try Self.trial(1)], storedUnixNanos: 1)[0]
      let reader = LogReader(folder: folder.path, disk: SystemDisk(), runtime: .system)
      #expect(try await reader.trial(Self.name(1), at: position) == Self.trial(1))
      let error = await #expect(throws: TrialsError.self) {
        try await reader.trial(Self.name(2), at: position)
      }
      #expect(error?.code == .corrupt)
    }
  }

  // MARK: The catalog fails

  @Test func `a catalog that cannot be written delays the index and no acknowledgement`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      let told = Told()
      var configuration = TrialStore.Configuration()
      configuration.maximumUncatalogued = 3
      do {
        let store = try TrialStore(
          folder: folder.path, configuration: configuration, disk: SystemDisk(), runtime: .system,
          catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
            if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
          }, tell: told.add)
        full.withLock { $0 = true }
        for index in 0..<3 { #expect(try await store.store(Self.trial(index)) == .stored) }
        await store.flushCounters()
        #expect(await store.uncataloguedTrials == 3)
        #expect(told.behind == 1)
        #expect(try await store.store(Self.trial(1)) == .duplicate)
        #expect(try await store.trial(Self.name(2)) == Self.trial(2))
        let error = await #expect(throws: TrialsError.self) { try await store.store(Self.trial(3)) }
        #expect(error?.code == .busy)
      }
      // Ended like this: the log knows them.
      let store = try TrialStore(folder: folder)
      #expect(try await Self.ids(store) == ["t-0", "t-1", "t-2"])
      for index in 0..<3 { #expect(try await store.store(Self.trial(index)) == .duplicate) }
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `a trial that is damaged in the active file and stored again is no duplicate`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      let store = try TrialStore(
        folder: folder.path, disk: SystemDisk(), runtime: .system,
        catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
          if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
        })
      for index in 0..<3 { #expect(try await store.store(Self.trial(index)) == .stored) }
      await store.flushCounters()
      let place = try Self.place("t-1", in: folder)
      try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      #expect(try await store.store(Self.trial(1)) == .stored)
      #expect(try await store.usage().duplicates == 0)
      await store.flushCounters()
      // The same of one that the catalog has not seen yet.
      let end = try Self.place("t-1", in: folder)
      full.withLock { $0 = true }
      #expect(try await store.store(Self.trial(3)) == .stored)
      try Self.flip(folder.appending(path: "log/\(end.file)"), at: end.offset + end.length + 600)
      #expect(try await store.store(Self.trial(3)) == .stored)
      full.withLock { $0 = false }
      #expect(try await store.store(Self.trial(4)) == .stored)
      await store.flushCounters()
      #expect(try await store.usage().duplicates == 0)
      #expect(try await Self.ids(store) == ["t-0", "t-2", "t-1", "t-3", "t-4"])
    }
  }

  @Test func `a catalog that can be written again has everything in the order of storing`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      let told = Told()
      let store = try TrialStore(
        folder: folder.path, disk: SystemDisk(), runtime: .system,
        catalog: try TrialCatalog(path: nil) {
          if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
        }, tell: told.add)
      full.withLock { $0 = true }
      for index in 0..<3 { #expect(try await store.store(Self.trial(index)) == .stored) }
      full.withLock { $0 = false }
      #expect(try await store.store(Self.trial(3)) == .stored)
      await store.flushCounters()
      #expect(try await Self.ids(store) == (0..<4).map { "t-\($0)" })
      #expect(await store.uncataloguedTrials == 0)
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `a damaged trial is not called a duplicate while the catalog cannot be written`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      do {
        let store = try TrialStore(
          folder: folder.path, disk: SystemDisk(), runtime: .system,
          catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
            if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
          })
        for index in 0..<3 { #expect(try await store.store(Self.trial(index)) == .stored) }
        await store.flushCounters()
        let place = try Self.place("t-1", in: folder)
        try Self.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
        full.withLock { $0 = true }
        #expect(try await store.store(Self.trial(1)) == .stored)
        #expect(try await store.trial(Self.name(1)) == Self.trial(1))
        #expect(try await store.store(Self.trial(1)) == .duplicate)
        full.withLock { $0 = false }
        // The catalog takes the new place for the old one.
        #expect(try await store.store(Self.trial(3)) == .stored)
        await store.flushCounters()
        #expect(await store.uncataloguedTrials == 0)
        #expect(try Self.place("t-1", in: folder) != place)
        #expect(try await Self.ids(store) == ["t-0", "t-2", "t-1", "t-3"])
      }
      let store = try await Self.reopen(folder, Told())
      for index in 0..<4 {
        #expect(try await store.trial(Self.name(index)) == Self.trial(index))
        #expect(try await store.store(Self.trial(index)) == .duplicate)
      }
    }
  }

  @Test func `counters go on while the catalog cannot be written, and outlive the process`() async throws {
    try await withTemporaryFolder { folder in
      let full = Mutex(false)
      do {
        let store = try TrialStore(
          folder: folder.path, disk: SystemDisk(), runtime: .system,
          catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
            if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
          })
        full.withLock { $0 = true }
        for _ in 0..<3 { store.count("refused") }
        await store.flushCounters()
        #expect(store.counter("refused") == 3)
        #expect(try await store.catalog.counters().isEmpty)
        full.withLock { $0 = false }
        await store.flushCounters()
      }
      let store = try await Self.reopen(folder, Told())
      store.count("refused")
      #expect(store.counter("refused") == 4)
    }
  }

  // MARK: Snapshots and times

  @Test func `snapshots and times of storing outlive the catalog`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fill(folder, 0..<5)
      var snapshot = DatasetSnapshot()
      var before: [TrialSummary] = []
      do {
        let store = try await Self.reopen(folder, Told())
        snapshot = try await store.createSnapshot(.init())
        before = try await store.catalog.trials(.init(), limit: 10, after: nil).trials
        try await Task.sleep(for: .milliseconds(1))
      }
      try Self.removeCatalog(folder)
      let store = try await Self.reopen(folder, Told())
      #expect(try await store.trials(ofSnapshot: snapshot.snapshotID) == (0..<5).map { Self.name($0) })
      #expect(try await store.catalog.trials(.init(), limit: 10, after: nil).trials == before)
    }
  }

  @Test func `a damaged snapshot is said to be one`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      _ = try await store.store(Self.trial(1))
      let snapshot = try await store.createSnapshot(.init())
      try Self.flip(folder.appending(path: "snapshots/\(snapshot.snapshotID)"), at: 20)
      let error = await #expect(throws: TrialsError.self) {
        try await store.trials(ofSnapshot: snapshot.snapshotID)
      }
      #expect(error?.code == .corrupt)
    }
  }

  // MARK: Stores

  /// What a store told.
  final class Told: Sendable {
    private let notices = Mutex<[TrialStore.Notice]>([])
    var add: @Sendable (TrialStore.Notice) -> Void {
      { notice in self.notices.withLock { $0.append(notice) } }
    }
    var damages: [LogDamage] {
      self.notices.withLock { $0 }.compactMap { if case .damage(let damage) = $0 { damage } else { nil } }
    }
    var unreadableRecords: [String] {
      self.notices.withLock { $0 }.compactMap {
        if case .damageRecordUnreadable(let path, _) = $0 { path } else { nil }
      }
    }
    var damagedCatalogs: Int {
      self.notices.withLock { $0 }.count {
        switch $0 {
        case .catalogDamaged, .catalogMadeAnew: true
        default: false
        }
      }
    }
    var behind: Int {
      self.notices.withLock { $0 }.count { if case .catalogBehind = $0 { true } else { false } }
    }
  }

  static func trial(_ index: Int) throws -> TrialRecord { try SampleTrial.make(id: "t-\(index)", steps: 3) }
  static func name(_ index: Int) -> TrialName { TrialName(robot: "robot-1", trialID: "t-\(index)") }

  static func fill(_ folder: URL, _ indices: Range<Int>, fileBytes: Int = 1 << 28) async throws {
    var configuration = TrialStore.Configuration()
    configuration.log.maximumFileBytes = fileBytes
    let store = try await Self.reopen(folder, Told(), configuration)
    for index in indices { #expect(try await store.store(Self.trial(index)) == .stored) }
    // Whoever opens the database by itself finds them there.
    _ = await store.catalog
  }

  /// The threads of a store let it go a moment after its last answer.
  static func reopen(
    _ folder: URL, _ told: Told, _ configuration: TrialStore.Configuration = .init()
  ) async throws -> TrialStore {
    for _ in 0..<1_000 {
      do {
        return try TrialStore(folder: folder, configuration: configuration, tell: told.add)
      } catch let error as StorageError where error.code == .inUse {
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    return try TrialStore(folder: folder, configuration: configuration, tell: told.add)
  }

  /// Returns once nobody has the store open: its database is then one file.
  static func closed(_ folder: URL) async throws { _ = try await Self.reopen(folder, Told()) }

  /// Returns once nobody owns the folder.
  static func unowned(_ folder: URL) async throws {
    for _ in 0..<1_000 {
      if (try? FolderLock(folder: folder.path, owner: "test")) != nil { return }
      try await Task.sleep(for: .milliseconds(10))
    }
    _ = try FolderLock(folder: folder.path, owner: "test")
  }

  static func place(_ id: String, in folder: URL) throws -> LogPosition {
    let catalog = try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path)
    return try #require(try catalog.position(robot: "robot-1", trialID: id))
  }

  static func ids(_ store: TrialStore) async throws -> [String] {
    try await store.catalog.trials(.init(), limit: 100, after: nil).trials.compactMap { $0.header?.trialID }
  }

  static func flip(_ file: URL, at offset: Int) throws {
    var bytes = try Data(contentsOf: file)
    bytes[offset] ^= 0x10
    let handle = try FileHandle(forWritingTo: file)
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(offset))
    try handle.write(contentsOf: [bytes[offset]])
  }

  static func removeCatalog(_ folder: URL) throws {
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
      try? FileManager.default.removeItem(at: folder.appending(path: name))
    }
  }
}
