import Foundation
import Schemas
import Storage
import TestSupport
import Testing

@testable import Trials

/// What becomes of a log on a disk that does not give back all of it.
@Suite("TrialStore, unreadable")
struct UnreadableLogTests {
  private typealias Recovery = StoreRecoveryTests

  @Test func `a bad sector in the last file costs the trial that it hits and nothing else`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12)
      let place = try Recovery.place("t-5", in: folder)
      let disk = FailingDisk()
      disk.spoil(place.file, place.offset + 300..<place.offset + 301)
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-5"])
      for index in 0..<12 where index != 5 {
        #expect(try await store.trial(Recovery.name(index)) == Recovery.trial(index))
        #expect(try await store.store(Recovery.trial(index)) == .duplicate)
      }
      #expect(try await store.store(Recovery.trial(5)) == .stored)
      #expect(try await store.trial(Recovery.name(5)) == Recovery.trial(5))
    }
  }

  @Test func `a bad sector is damage also to a reader that saw the file when it was short`() async throws {
    try await withTemporaryFolder { folder in
      let disk = FailingDisk()
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      #expect(try await store.store(Recovery.trial(0)) == .stored)
      #expect(try await store.trial(Recovery.name(0)) == Recovery.trial(0))
      for index in 1..<8 { #expect(try await store.store(Recovery.trial(index)) == .stored) }
      await store.flushCounters()
      let place = try Recovery.place("t-0", in: folder)
      disk.spoil(place.file, 0..<place.offset + place.length + 100)
      let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(0)) }
      #expect(error?.code == .corrupt)
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-0"])
    }
  }

  @Test func `a bad sector in a file's head costs nothing, not even with the catalog lost`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      try await Recovery.closed(folder)
      let file = try Recovery.place("t-0", in: folder).file
      let whole = try Data(contentsOf: folder.appending(path: "log/\(file)"))
      try Recovery.removeCatalog(folder)
      let disk = FailingDisk()
      disk.spoil(file, 1_000..<1_001)
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      #expect(told.damages.isEmpty)
      for index in 0..<4 { #expect(try await store.store(Recovery.trial(index)) == .duplicate) }
      #expect(try Data(contentsOf: folder.appending(path: "log/\(file)")).starts(with: whole.prefix(2_000)))
    }
  }

  @Test func `a bad sector in a sealed file is damage to its reader, and its trial is stored again`()
    async throws
  {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12, fileBytes: 8_000)
      let place = try Recovery.place("t-1", in: folder)
      let disk = FailingDisk()
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      disk.spoil(place.file, place.offset + 300..<place.offset + 301)
      let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
      #expect(error?.code == .corrupt)
      #expect(told.damages.flatMap(\.lost).map(\.trialID) == ["t-1"])
      #expect(try await store.store(Recovery.trial(1)) == .stored)
      #expect(try await store.trial(Recovery.name(1)) == Recovery.trial(1))
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `what a file that is opened anew gives back is no damage`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12, fileBytes: 8_000)
      let place = try Recovery.place("t-1", in: folder)
      let disk = FailingDisk()
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      #expect(try await store.trial(Recovery.name(1)) == Recovery.trial(1))
      disk.spoilWhereOpen(place.file, place.offset + 300..<place.offset + 301)
      #expect(try await store.trial(Recovery.name(1)) == Recovery.trial(1))
      #expect(try await store.store(Recovery.trial(1)) == .duplicate)
      #expect(told.damages.isEmpty)
    }
  }

  @Test func `a bad sector that cannot be noted either is the disk's, and costs no trial`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      let place = try Recovery.place("t-1", in: folder)
      let disk = FailingDisk()
      let told = Recovery.Told()
      let store = try await Self.open(folder, disk, told)
      disk.spoil(place.file, place.offset + 300..<place.offset + 301)
      disk.fail(after: 0)
      let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
      #expect(error?.code == .fileSystem)
      #expect(disk.hasFailed)
      #expect(told.damages.isEmpty)
      #expect(try Recovery.place("t-1", in: folder) == place)
    }
  }

  @Test func `damage that cannot be noted drops no row, and is told once it can`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12, fileBytes: 8_000)
      let place = try Recovery.place("t-1", in: folder)
      try Recovery.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      let disk = FailingDisk()
      let told = Recovery.Told()
      do {
        let store = try await Self.open(folder, disk, told)
        disk.fail(after: 0)
        let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
        #expect(error?.code == .fileSystem)
        #expect(disk.hasFailed && told.damages.isEmpty)
        await store.flushCounters()
        #expect(try Recovery.place("t-1", in: folder) == place)
        let later = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
        #expect(later?.code == .corrupt)
        #expect(told.damages.flatMap(\.lost) == [Recovery.name(1)])
      }
      let store = try await Self.open(folder, disk, told)
      #expect(await store.damages().recent.flatMap(\.lost) == [Recovery.name(1)])
    }
  }

  @Test func `a disk that reads nothing has lost nothing, running or starting`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<4)
      let disk = FailingDisk()
      let told = Recovery.Told()
      do {
        let store = try await Self.open(folder, disk, told)
        disk.failReads(true)
        for _ in 0..<2 {
          let error = await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
          #expect(error?.code == .fileSystem)
          await #expect(throws: TrialsError.self) { try await store.store(Recovery.trial(1)) }
        }
      }
      let error = await #expect(throws: TrialsError.self) { try await Self.open(folder, disk, told) }
      #expect(error?.code == .fileSystem)
      disk.failReads(false)
      let store = try await Self.open(folder, disk, told)
      #expect(told.damages.isEmpty)
      for index in 0..<4 { #expect(try await store.store(Recovery.trial(index)) == .duplicate) }
    }
  }

  /// Head, chunks, indexes and summary: each block in turn.
  @Test(arguments: [false, true]) func `a bad block anywhere costs only the trials in it`(isSealed: Bool)
    async throws
  {
    try await withTemporaryFolder { folder in
      let file = try TrialLogTests.write(12, in: folder, steps: 2)
      if isSealed { try TrialLog(folder: folder.path).seal() }
      for name in try TrialLog.fileNames(in: folder.path) where name != file.name {
        try FileManager.default.removeItem(at: folder.appending(path: name))
      }
      let bytes = try Data(contentsOf: file.url)
      #expect(bytes.count > 3 * LogFile.block)
      for start in stride(from: 0, to: bytes.count, by: LogFile.block) {
        for name in try TrialLog.fileNames(in: folder.path) {
          try FileManager.default.removeItem(at: folder.appending(path: name))
        }
        try bytes.write(to: file.url)
        let bad = start..<min(bytes.count, start + LogFile.block)
        let disk = FailingDisk()
        disk.spoil(file.name, bad)
        var damages: [Range<Int>] = []
        let log = try TrialLog(
          folder: folder.path, disk: disk, acknowledgedEnd: { _ in file.chunks[11].next },
          damaged: { damages.append($0.bytes) })
        let whole = file.chunks.indices.filter { index in
          !bad.overlaps(file.chunks[index].offset..<file.chunks[index].offset + file.chunks[index].length)
        }
        let contents = try log.contents(of: file.name)
        #expect(contents.entries.map(\.name.trialID) == whole.map { "t-\($0)" }, "block at \(start)")
        if whole.count < 12 { #expect(!damages.isEmpty || !contents.damages.isEmpty) }
        let added = try log.append([file.trials[0]], storedUnixNanos: 9)
        #expect(try log.trial(at: added[0]) == file.trials[0])
      }
    }
  }

  @Test func `places without number are a disk that fails`() async throws {
    try await withTemporaryFolder { folder in
      let path = folder.appending(path: "file").path
      let bytes = [UInt8](repeating: 1, count: (LogFile.maximumUnreadable + 8) * LogFile.block)
      try DurableFile.write(bytes, to: path)
      let disk = FailingDisk()
      disk.spoil("file", LogFile.block..<bytes.count)
      let file = try LogFile(path, .read, on: disk)
      let error = #expect(throws: TrialsError.self) { try file.readAroundBad(at: 0, count: bytes.count) }
      #expect(error?.code == .fileSystem)
    }
  }

  @Test func `one good block that is no neighbour makes a bad one damage of its place`() async throws {
    try await withTemporaryFolder { folder in
      let path = folder.appending(path: "file").path
      let bytes = [UInt8](repeating: 1, count: 6 * LogFile.block)
      try DurableFile.write(bytes, to: path)
      let disk = FailingDisk()
      disk.spoil("file", 0..<3 * LogFile.block)
      disk.spoil("file", 4 * LogFile.block..<bytes.count)
      let file = try LogFile(path, .read, on: disk)
      #expect(try file.readUnlessBad(at: LogFile.block, count: LogFile.block) == nil)
      #expect(try file.read(at: 3 * LogFile.block, count: 1) == [1])
    }
  }

  private static func open(_ folder: URL, _ disk: FailingDisk, _ told: Recovery.Told) async throws
    -> TrialStore
  {
    // Whoever had it before has let it go.
    try await Recovery.closed(folder)
    return try TrialStore(
      folder: folder.path, disk: disk, runtime: .system,
      catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path), tell: told.add)
  }
}
