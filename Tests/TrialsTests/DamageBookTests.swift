import Foundation
import Schemas
import SimulationKit
import Storage
import Testing

@testable import Trials

@Suite("DamageBook")
struct DamageBookTests {
  private static func found(_ content: String, at offset: Int = 8) -> FoundDamage {
    var found = FoundDamage(offset..<offset + 500, missing: [], from: "trials-00000001.mcap")
    found.fingerprint = CRC32.checksum(Array(content.utf8))
    return found
  }

  private static func note(_ found: FoundDamage, _ id: String, in book: DamageBook) throws -> LogDamage? {
    let place = LogPosition(file: found.file, offset: found.bytes.lowerBound, length: found.bytes.count)
    return try book.note(found, lost: [(TrialName(robot: "r", trialID: id), place)], nowUnixNanos: 7)
  }

  @Test func `damage is noted once for each place and what stands there`() async throws {
    try await withTemporaryFolder { folder in
      let book = try DamageBook(folder: folder.path, disk: SystemDisk())
      #expect(try Self.note(Self.found("a"), "t-0", in: book)?.lost.map(\.trialID) == ["t-0"])
      #expect(try Self.note(Self.found("a"), "t-0", in: book) == nil)
      #expect(try Self.note(Self.found("b"), "t-1", in: book) != nil)
      #expect(try Self.note(Self.found("a", at: 9), "t-2", in: book) != nil)
      let again = try DamageBook(folder: folder.path, disk: SystemDisk())
      #expect(again.recent.flatMap(\.lost).map(\.trialID).sorted() == ["t-0", "t-1", "t-2"])
      #expect(try Self.note(Self.found("b"), "t-1", in: again) == nil)
    }
  }

  @Test(arguments: 0..<12 as Range<UInt64>)
  func `a record whose folder could not be synced is durable once it is known`(seed: UInt64) throws {
    let host = SimulatedHost("ingest", in: Simulation(seed: seed))
    do {
      let book = try DamageBook(folder: "/damage", disk: host.boot().disk)
      host.platter.faults.synchronizeFolder = 1
      #expect(throws: TrialsError.self) { try Self.note(Self.found("a"), "t-0", in: book) }
    }
    host.die(.killed)
    host.platter.faults = DiskFaults()
    #expect(
      try Self.note(Self.found("a"), "t-0", in: try DamageBook(folder: "/damage", disk: host.boot().disk))
        == nil)
    host.die(.powerCut)
    #expect(try DamageBook(folder: "/damage", disk: host.boot().disk).count == 1)
  }

  @Test func `a record that cannot be read costs what it said, and is told`() async throws {
    try await withTemporaryFolder { folder in
      do {
        let book = try DamageBook(folder: folder.appending(path: "damage").path, disk: SystemDisk())
        for index in 0..<3 { _ = try Self.note(Self.found("\(index)"), "t-\(index)", in: book) }
      }
      let names = try FileManager.default.contentsOfDirectory(
        atPath: folder.appending(path: "damage").path)
      let bad = try #require(names.sorted().first)
      try Data([0xFF, 0xFF]).write(to: folder.appending(path: "damage/\(bad)"))
      let told = StoreRecoveryTests.Told()
      let store = try await StoreRecoveryTests.reopen(folder, told)
      #expect(told.unreadableRecords == [folder.appending(path: "damage/\(bad)").path])
      #expect(await store.damages().count == 2)
      #expect(try await store.store(StoreRecoveryTests.trial(0)) == .stored)
    }
  }
}
