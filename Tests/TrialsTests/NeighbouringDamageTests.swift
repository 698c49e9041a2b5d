import Foundation
import Schemas
import Storage
import Synchronization
import Testing

@testable import Trials

/// Trials that lie beside each other and are both damaged: each of them is named, or counted as one whose name nobody knows.
@Suite("TrialStore, neighbouring damage")
struct NeighbouringDamageTests {
  private typealias Recovery = StoreRecoveryTests

  @Test func `a trial that is damaged behind one whose damage is noted already is named too`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12)
      let (first, second) = (try Recovery.place("t-5", in: folder), try Recovery.place("t-6", in: folder))
      let log = folder.appending(path: "log/\(first.file)")
      let told = Recovery.Told()
      do {
        let store = try await Recovery.reopen(folder, told)
        try Recovery.flip(log, at: first.offset + 300)
        await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(5)) }
      }
      #expect(told.damages.flatMap(\.lost) == [Recovery.name(5)])
      try Recovery.flip(log, at: second.offset + 300)
      let store = try await Recovery.reopen(folder, told)
      #expect(told.damages.flatMap(\.lost) == [Recovery.name(5), Recovery.name(6)])
      #expect(told.damages.map(\.lostUnnamed) == [0, 0])
      #expect(try await store.store(Recovery.trial(6)) == .stored)
    }
  }

  /// In its data, and in its head, so that nothing says where it ends.
  @Test(arguments: [300, 2]) func `a damaged trial that the catalog lacks is told beside one that it has`(
    at offset: Int
  ) async throws {
    try await withTemporaryFolder { folder in
      try await Self.fillBehindCatalog(folder, known: 1, unknown: 2)
      let place = try Recovery.place("t-0", in: folder)
      let log = folder.appending(path: "log/\(place.file)")
      let second = try Self.chunks(log)[1].chunk.offset
      try Recovery.flip(log, at: place.offset + offset)
      try Recovery.flip(log, at: second + offset)
      let told = Recovery.Told()
      _ = try await Recovery.reopen(folder, told)
      #expect(told.damages.flatMap(\.lost) == [Recovery.name(0)])
      #expect(told.damages.reduce(0) { $0 + $1.lostUnnamed } == 1)
    }
  }

  @Test func `every damaged trial at the end that the catalog lacks is told`() async throws {
    try await withTemporaryFolder { folder in
      try await Self.fillBehindCatalog(folder, known: 1, unknown: 2)
      let place = try Recovery.place("t-0", in: folder)
      let log = folder.appending(path: "log/\(place.file)")
      for chunk in try Self.chunks(log).dropFirst() { try Recovery.flip(log, at: chunk.chunk.offset + 600) }
      let told = Recovery.Told()
      _ = try await Recovery.reopen(folder, told)
      #expect(told.damages.flatMap(\.lost) == [Recovery.name(1), Recovery.name(2)])
      #expect(told.damages.map(\.mayBeTorn) == [true, true])
    }
  }

  @Test func `the last trial of a sealed file is told though its summary and the catalog are gone`()
    async throws
  {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<12, fileBytes: 8_000)
      try await Recovery.closed(folder)
      let place = try Recovery.place("t-0", in: folder)
      let log = folder.appending(path: "log/\(place.file)")
      let last = try #require(try Self.chunks(log).last)
      try Recovery.flip(log, at: last.chunk.offset + 300)
      try Recovery.flip(log, at: try Data(contentsOf: log).count - 12)
      try Recovery.removeCatalog(folder)
      let told = Recovery.Told()
      _ = try await Recovery.reopen(folder, told)
      #expect(told.damages.map(\.offset) == [UInt64(last.chunk.offset)])
      #expect(told.damages.map(\.lostUnnamed) == [1])
    }
  }

  @Test func `no bit of the head hides a trial`() async throws {
    try await withTemporaryFolder { folder in
      try await Recovery.fill(folder, 0..<3)
      try await Recovery.closed(folder)
      let first = try Recovery.place("t-0", in: folder)
      let log = folder.appending(path: "log/\(first.file)")
      let names = try Self.chunks(log).map(\.name)
      #expect(names == (0..<3).map(Recovery.name))
      let whole = try Data(contentsOf: log)
      for offset in try Self.framing(of: whole, until: first.offset) {
        for bit in 0..<8 {
          var harmed = whole
          harmed[offset] ^= 1 << UInt8(bit)
          try harmed.write(to: log)
          #expect(try Self.chunks(log).map(\.name) == names, "bit \(bit) of byte \(offset)")
        }
      }
    }
  }

  /// Bytes of a file's head that say what stands there and how long it is.
  private static func framing(of file: Data, until end: Int) throws -> [Int] {
    var (bytes, offset) = (Array(0..<MCAP.magic.count), MCAP.magic.count)
    while offset < end {
      bytes += offset..<offset + MCAP.recordOverhead
      let length = file[offset + 1..<offset + 9].reversed().reduce(0) { $0 << 8 | Int($1) }
      offset += MCAP.recordOverhead + length
    }
    try #require(offset == end && bytes.count == MCAP.magic.count + 3 * MCAP.recordOverhead)
    return bytes
  }

  private static func chunks(_ log: URL) throws -> [LogScanner.Scan.Entry] {
    try LogScanner.scan(try LogFile(log.path, .read, on: SystemDisk())).entries
  }

  /// Stores trials of which the catalog knows only the first.
  private static func fillBehindCatalog(_ folder: URL, known: Int, unknown: Int) async throws {
    let full = Mutex(false)
    let store = try TrialStore(
      folder: folder.path, disk: SystemDisk(), runtime: .system,
      catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
        if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
      })
    for index in 0..<known { #expect(try await store.store(Recovery.trial(index)) == .stored) }
    await store.flushCounters()
    full.withLock { $0 = true }
    for index in known..<known + unknown { #expect(try await store.store(Recovery.trial(index)) == .stored) }
  }
}
