import Foundation
import Schemas
import SimulationKit
import Storage
import Testing

@testable import Trials

/// What a new process makes of the last log file, on a machine whose memory and disk are not the same.
@Suite("LogRepair")
struct LogRepairTests {
  private static let folder = "/log"
  private static let path = "/log/trials-00000001.mcap"

  @Test(arguments: 0..<12 as Range<UInt64>)
  func `what a failed sync left in memory is on the disk before anybody is told of it`(seed: UInt64) throws {
    let host = SimulatedHost("ingest", in: Simulation(seed: seed))
    let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)", steps: 1) }
    var acknowledged = LogPosition(file: "", offset: 0, length: 0)
    do {
      let log = try TrialLog(folder: Self.folder, disk: host.boot().disk)
      acknowledged = try log.append([trials[0]], storedUnixNanos: 1)[0]
      host.platter.faults.synchronize = 1
      host.platter.faults.truncate = 1
      #expect(throws: TrialsError.self) { try log.append([trials[1]], storedUnixNanos: 2) }
    }
    host.die(.killed)
    host.platter.faults = DiskFaults()
    let end = acknowledged.offset + acknowledged.length
    let log = try TrialLog(folder: Self.folder, disk: host.boot().disk, acknowledgedEnd: { _ in end })
    #expect(try TrialLogTests.ids(log) == ["t-0", "t-1"])
    host.die(.powerCut)
    let after = try TrialLog(folder: Self.folder, disk: host.boot().disk, acknowledgedEnd: { _ in end })
    #expect(try TrialLogTests.ids(after) == ["t-0", "t-1"])
    #expect(try after.trial(at: acknowledged) == trials[0])
    #expect(try after.append([trials[2]], storedUnixNanos: 3)[0].offset > end)
  }

  @Test(arguments: 0..<12 as Range<UInt64>)
  func `what is on the disk after a failed sync and an append is what stood in memory`(seed: UInt64) throws {
    let host = SimulatedHost("ingest", in: Simulation(seed: seed))
    let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)", steps: 1) }
    do {
      let log = try TrialLog(folder: Self.folder, disk: host.boot().disk)
      _ = try log.append([trials[0]], storedUnixNanos: 1)
      host.platter.faults.synchronize = 1
      host.platter.faults.truncate = 1
      #expect(throws: TrialsError.self) { try log.append([trials[1]], storedUnixNanos: 2) }
    }
    host.die(.killed)
    host.platter.faults = DiskFaults()
    var memory: [UInt8] = []
    do {
      let disk = host.boot().disk
      let log = try TrialLog(folder: Self.folder, disk: disk)
      _ = try log.append([trials[2]], storedUnixNanos: 3)
      memory = try DurableFile.read(Self.path, limit: 1 << 20, on: disk)
    }
    host.die(.powerCut)
    #expect(try DurableFile.read(Self.path, limit: 1 << 20, on: host.boot().disk) == memory)
  }

  /// The file's name and all of its bytes were never synced.
  @Test(arguments: 0..<12 as Range<UInt64>)
  func `what a killed process did not sync is synced before anybody is told of it`(seed: UInt64) throws {
    let host = SimulatedHost("ingest", in: Simulation(seed: seed))
    do {
      let disk = host.boot().disk
      let log = try TrialLog(folder: "/other", disk: disk)
      for index in 0..<2 {
        _ = try log.append([try SampleTrial.make(id: "t-\(index)", steps: 1)], storedUnixNanos: 1)
      }
      try disk.makeFolder(Self.folder)
      let bytes = try DurableFile.read("/other/\(log.currentFile)", limit: 1 << 20, on: disk)
      try disk.open(Self.path, .create).write(bytes, at: 0)
    }
    host.die(.killed)
    #expect(
      try TrialLogTests.ids(try TrialLog(folder: Self.folder, disk: host.boot().disk)) == ["t-0", "t-1"])
    host.die(.powerCut)
    #expect(
      try TrialLogTests.ids(try TrialLog(folder: Self.folder, disk: host.boot().disk)) == ["t-0", "t-1"])
  }

  @Test func `a beginning that a failed sync left in memory is written before a trial is`() throws {
    for seed in 0..<12 as Range<UInt64> {
      let host = SimulatedHost("ingest", in: Simulation(seed: seed))
      host.platter.faults.synchronize = 1
      host.platter.faults.remove = 1
      #expect(throws: TrialsError.self) { try TrialLog(folder: Self.folder, disk: host.boot().disk) }
      host.die(.killed)
      host.platter.faults = DiskFaults()
      let log = try TrialLog(folder: Self.folder, disk: host.boot().disk)
      _ = try log.append([try SampleTrial.make(id: "t-0", steps: 1)], storedUnixNanos: 1)
      host.die(.powerCut)
      let after = try TrialLog(
        folder: Self.folder, disk: host.boot().disk,
        damaged: { Issue.record("\($0.bytes) are damaged with seed \(seed)") })
      #expect(try TrialLogTests.ids(after) == ["t-0"])
    }
  }

  // MARK: Tails

  @Test func `a last trial that nobody knows to be acknowledged is kept, named, and may be torn`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let file = try TrialLogTests.write(3, in: folder, steps: 2)
      let last = file.chunks[2]
      // In its data, and in its length, so that nothing says where it ends.
      for (at, end) in [
        (last.offset + 400, last.offset + last.length), (last.offset + 2, file.bytes.count),
      ] {
        for name in try TrialLog.fileNames(in: folder.path) {
          try FileManager.default.removeItem(at: folder.appending(path: name))
        }
        var bytes = file.bytes
        bytes[at] ^= 0x40
        try Data(bytes).write(to: file.url)
        var damages: [FoundDamage] = []
        let log = try TrialLog(
          folder: folder.path, acknowledgedEnd: { _ in file.chunks[1].offset + file.chunks[1].length },
          damaged: { damages.append($0) })
        #expect(damages.map(\.bytes) == [last.offset..<end])
        #expect(damages.map(\.mayBeTorn) == [true])
        #expect(damages.map(\.claimed) == [StoreRecoveryTests.name(2)])
        #expect(log.tornBytes == 0)
        #expect(log.currentFile == "trials-00000002.mcap")
        #expect(try Array(Data(contentsOf: file.url).prefix(bytes.count)) == bytes)
      }
    }
  }

  /// One sync is for all trials of a group: of what a power cut leaves of it, any part may be missing.
  @Test func `a trial that is torn in the midst of a group may be torn, and one of an earlier group is lost`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let trials = try (0..<4).map { try SampleTrial.make(id: "t-\($0)", steps: 1) }
      var places: [LogPosition] = []
      do {
        let log = try TrialLog(folder: folder.path)
        places = try log.append([trials[0]], storedUnixNanos: 3_000_000_000)
        places += try log.append(Array(trials[1...]), storedUnixNanos: 4_000_000_000)
      }
      let url = folder.appending(path: places[0].file)
      var bytes = try Data(contentsOf: url)
      for place in [places[0], places[2]] {
        bytes.replaceSubrange(
          place.offset + place.length - 200..<place.offset + place.length, with: Data(count: 200))
      }
      try bytes.write(to: url)
      // The catalog knows none of them.
      var damages: [FoundDamage] = []
      let log = try TrialLog(folder: folder.path, damaged: { damages.append($0) })
      #expect(damages.map(\.bytes.lowerBound) == [places[0].offset, places[2].offset])
      #expect(damages.map(\.mayBeTorn) == [false, true])
      #expect(damages.map(\.claimed) == [nil, StoreRecoveryTests.name(2)])
      #expect(try TrialLogTests.ids(log, places[0].file) == ["t-1", "t-3"])
    }
  }

  @Test func `a damaged index is written as it should be`() async throws {
    try await withTemporaryFolder { folder in
      try await StoreRecoveryTests.fill(folder, 0..<3)
      try await StoreRecoveryTests.closed(folder)
      let place = try StoreRecoveryTests.place("t-1", in: folder)
      let log = folder.appending(path: "log/\(place.file)")
      let whole = try Data(contentsOf: log)
      try StoreRecoveryTests.flip(log, at: place.offset + place.length + 1)
      try StoreRecoveryTests.removeCatalog(folder)
      try await StoreRecoveryTests.closed(folder)
      #expect(try Data(contentsOf: log).starts(with: whole))
    }
  }

  @Test func `a good copy of a trial is found though the catalog knows the damaged one`() async throws {
    try await withTemporaryFolder { folder in
      try await StoreRecoveryTests.fill(folder, 0..<2, fileBytes: 1)
      try await StoreRecoveryTests.closed(folder)
      let place = try StoreRecoveryTests.place("t-0", in: folder)
      let catalog = try Data(contentsOf: folder.appending(path: "catalog.sqlite"))
      try StoreRecoveryTests.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + 300)
      do {
        let store = try await StoreRecoveryTests.reopen(folder, StoreRecoveryTests.Told())
        #expect(try await store.store(StoreRecoveryTests.trial(0)) == .stored)
      }
      try await StoreRecoveryTests.closed(folder)
      // As where the process ended before the catalog was told.
      try StoreRecoveryTests.removeCatalog(folder)
      try catalog.write(to: folder.appending(path: "catalog.sqlite"))
      let store = try await StoreRecoveryTests.reopen(folder, StoreRecoveryTests.Told())
      #expect(try await store.trial(StoreRecoveryTests.name(0)) == StoreRecoveryTests.trial(0))
      #expect(try await store.store(StoreRecoveryTests.trial(0)) == .duplicate)
    }
  }

  @Test func `a seal torn at any byte is no damage`() async throws {
    try await withTemporaryFolder { folder in
      let file = try TrialLogTests.write(2, in: folder, steps: 1)
      try TrialLog(folder: folder.path).seal()
      let sealed = try Data(contentsOf: file.url)
      for cut in stride(from: file.bytes.count, to: sealed.count, by: 5) {
        for name in try TrialLog.fileNames(in: folder.path) {
          try FileManager.default.removeItem(at: folder.appending(path: name))
        }
        try sealed.prefix(cut).write(to: file.url)
        let log = try TrialLog(
          folder: folder.path, damaged: { Issue.record("\($0.bytes) are damaged, cut at \(cut)") })
        #expect(log.currentFile == file.name)
        #expect(log.tornBytes == cut - file.bytes.count)
        #expect(try TrialLogTests.ids(log) == ["t-0", "t-1"])
      }
    }
  }
}
