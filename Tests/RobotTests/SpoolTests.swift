import Foundation
import Schemas
import SimulationKit
import Storage
import TestSupport
import Testing

@testable import RobotCore

@Suite struct SpoolTests {
  @Test func keepsATrialUntilItIsRemoved() async throws {
    let folder = try TemporaryFolder()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20)
    let entry = try await spool.store("t1")
    #expect(try await spool.events(of: "t1") == Messages.events("t1"))
    #expect(spool.usage.trials == 1)
    #expect(spool.usage.bytes == entry.bytes)
    #expect(await spool.remove("t1"))
    #expect(await !spool.remove("t1"))
    #expect(try await spool.events(of: "t1") == nil)
    #expect(spool.usage == .init(trials: 0, bytes: 0, filed: 1, acknowledged: 1, refused: 0))
  }

  @Test func survivesARestartWithItsNumbers() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    for trial in ["t1", "t2", "t3", "t4"] { try await first.store(trial) }
    await first.remove("t2")
    try await first.refuse("t3", reason: "no such task")
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(await again.pending.map(\.trialID) == ["t1", "t4"])
    let before = first.usage
    #expect(again.usage == before)
    #expect(before.filed == 4 && before.acknowledged == 1 && before.refused == 1)
    try await again.store("t5")
    #expect(await again.pending.map(\.ordinal) == [1, 4, 5])
  }

  @Test func countsATrialWhoseLedgerEntryWasLost() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    try await first.store("t1")
    // As after a crash between the rename and the ledger.
    try FileManager.default.removeItem(atPath: folder.path + "/ledger.json")
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(again.usage.filed == 1)
    #expect(again.usage.acknowledged == 0)
  }

  @Test func `a lost ledger, stray files and names at their end do not end the agent`() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    for trial in ["t1", "t2", "t3"] { try await first.store(trial) }
    try await first.refuse("t1", reason: "no such task")
    try FileManager.default.removeItem(atPath: folder.path + "/ledger.json")
    for name in ["refused/notes.txt", "ready/readme", "ready/\(UInt64.max)_t9", "refused/a_b"] {
      try Data([1]).write(to: URL(filePath: folder.path + "/" + name))
    }
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(again.usage.filed == 3)
    #expect(again.usage.acknowledged == 0)
    #expect(again.usage.refused == 1)
    #expect(try await again.store("t4").ordinal == 4)
    try CheckedFile.write(Data("{\"filed\": \(UInt64.max)}".utf8), to: folder.path + "/ledger.json")
    let last = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(last.usage.trials == 3)
    try Data("{\"filed\": 9}".utf8).write(to: URL(filePath: folder.path + "/ledger.json"))
    #expect(try Spool(folder: folder.path, limitBytes: 1 << 20).usage.filed == 4, "it has no hash")
  }

  @Test func `an old ledger with more refused than filed trials counts none as acknowledged`() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    try await first.store("t1")
    try await first.refuse("t1", reason: "no such task")
    try CheckedFile.write(Data("{\"filed\": 0}".utf8), to: folder.path + "/ledger.json")
    // A copy that a person made.
    try Data([1]).write(to: URL(filePath: folder.path + "/refused/000000000001_t1-copy"))
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(again.usage == .init(trials: 0, bytes: 0, filed: 1, acknowledged: 0, refused: 2))
  }

  @Test(arguments: 0..<7) func `a trial that is moved aside is whole there, whatever the disk refused first`(
    operation: Int
  ) async throws {
    let folder = try TemporaryFolder()
    let disk = FailingDisk()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, disk: disk)
    try await spool.store("t1", on: disk)
    disk.fail(after: operation)
    await #expect(throws: RobotError.self) { try await spool.refuse("t1", reason: "no such task") }
    #expect(try await spool.events(of: "t1") == Messages.events("t1"), "it can still be read")
    try await spool.refuse("t1", reason: "no such task any more")
    #expect(disk.hasFailed)
    let aside = folder.path + "/refused/000000000001_t1"
    #expect(try SpoolFile.events(at: aside) == Messages.events("t1"))
    let reason = operation > 3 ? "no such task\n" : "no such task any more\n"
    #expect(try String(contentsOfFile: aside + ".untold", encoding: .utf8) == reason)
    #expect(spool.usage == .init(trials: 0, bytes: 0, filed: 1, acknowledged: 0, refused: 1))
  }

  @Test(arguments: 0..<12 as Range<UInt64>)
  func `a trial that is told as set aside lies there, though who moved it was killed`(
    seed: UInt64
  ) async throws {
    let host = SimulatedHost("robot", in: Simulation(seed: seed))
    let aside = "/spool/refused/000000000001_t1"
    do {
      let disk = host.boot().disk
      let spool = try Spool(folder: "/spool", limitBytes: 1 << 20, disk: disk)
      try await spool.store("t1", on: disk)
      host.platter.didMove = { if $0 == aside { host.platter.faults.synchronizeFolder = 1 } }
      await #expect(throws: RobotError.self) { try await spool.refuse("t1", reason: "no such task") }
    }
    host.die(.killed)
    host.platter.faults = DiskFaults()
    let again = try Spool(folder: "/spool", limitBytes: 1 << 20, disk: host.boot().disk)
    #expect(again.untold.map(\.path) == [aside])
    host.die(.powerCut)
    #expect(try host.boot().disk.size(of: aside) ?? 0 > 0)
  }

  @Test func dropsWhatACrashCutShort() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    var file = try SpoolFile(creating: await first.admit(trialID: "t1"))
    try file.append(Messages.events("t1")[0])
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(again.usage.trials == 0)
    #expect(try folder.names("open").isEmpty)
  }

  @Test func refusesNewTrialsWhenFullAndDropsNone() async throws {
    let folder = try TemporaryFolder()
    let spool = try Spool(folder: folder.path, limitBytes: 10)
    try await spool.store("t1")
    let error = await #expect(throws: RobotError.self) { _ = try await spool.admit(trialID: "t2") }
    #expect(error?.code == .spoolFull)
    #expect(await spool.pending.map(\.trialID) == ["t1"])
    await spool.remove("t1")
    _ = try await spool.admit(trialID: "t2")
  }

  @Test func refusesNewTrialsWhenTheDiskIsNearlyFull() async throws {
    let folder = try TemporaryFolder()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, reserveBytes: .max)
    let error = await #expect(throws: RobotError.self) { _ = try await spool.admit(trialID: "t1") }
    #expect(error?.code == .spoolFull)
  }

  @Test(arguments: [1, 3, 5, 40]) func tellsOfDamage(cut: Int) async throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/trial"
    var file = try SpoolFile(creating: path)
    for event in Messages.events("t1") { try file.append(event) }
    truncate(path, off_t(file.bytes) - off_t(cut))
    let error = #expect(throws: RobotError.self) { try SpoolFile.events(at: path) }
    #expect(error?.code == .damaged)
  }

  @Test func tellsOfADiskThatRefusesAWrite() throws {
    let folder = try TemporaryFolder()
    #expect(throws: RobotError.self) { _ = try SpoolFile(creating: folder.path + "/missing/trial").bytes }
  }

  @Test func `a trial that can be moved neither on nor back is filed once the disk works`() async throws {
    let folder = try TemporaryFolder()
    let disk = FailingDisk()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, reserveBytes: 0, disk: disk)
    var file = try SpoolFile(creating: await spool.admit(trialID: "t1"), on: disk)
    for event in Messages.events("t1") { try file.append(event) }
    try file.synchronize()
    // It is moved, and nothing else is done.
    disk.die(after: 1)
    let bytes = file.bytes
    await #expect(throws: RobotError.self) { try await spool.file(trialID: "t1", bytes: bytes) }
    #expect(spool.usage.filed == 0)
    disk.refusesAll = false
    // Who recorded it has not given it up, and hears himself what becomes of it.
    #expect(await spool.fileStranded().isEmpty && spool.usage.filed == 0)
    _ = try await spool.fileAnew(trialID: "t1")
    #expect(try await spool.events(of: "t1") == Messages.events("t1"))
    #expect(spool.usage.filed == 1 && spool.usage.trials == 1)
  }

  @Test(arguments: [0, 1])
  func `a trial of which the disk does not even say where it lies is filed once it works`(
    moves: Int
  ) async throws {
    let folder = try TemporaryFolder()
    let disk = FailingDisk()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, reserveBytes: 0, disk: disk)
    var file = try SpoolFile(creating: await spool.admit(trialID: "t1"), on: disk)
    for event in Messages.events("t1") { try file.append(event) }
    try file.synchronize()
    disk.die(after: moves)
    let bytes = file.bytes
    await #expect(throws: RobotError.self) { try await spool.file(trialID: "t1", bytes: bytes) }
    let error = await #expect(throws: RobotError.self) { try await spool.fileAnew(trialID: "t1") }
    #expect(error?.code == .diskFailed)
    #expect(await !spool.discard(trialID: "t1"))
    #expect(spool.unkept?.contains("Trial t1") == true)
    await #expect(throws: RobotError.self) { try await spool.admit(trialID: "t2") }
    disk.refusesAll = false
    // Moved, and no further.
    disk.fail(after: 1)
    #expect(await spool.fileStranded().isEmpty)
    #expect(disk.hasFailed && spool.usage.filed == 0)
    #expect(await spool.fileStranded().isEmpty)
    #expect(spool.unkept == nil)
    #expect(spool.usage == .init(trials: 1, bytes: bytes, filed: 1, acknowledged: 0, refused: 0))
    #expect(try await spool.events(of: "t1") == Messages.events("t1"))
    #expect(try folder.names("ready").count == 1)
    #expect(try folder.names("open").isEmpty)
    #expect(try Spool(folder: folder.path, limitBytes: 1 << 20).usage == spool.usage)
    try await spool.store("t2")
  }

  @Test(arguments: [0, 1])
  func `a trial that is gone once the disk works is told and waited for no longer`(moves: Int) async throws {
    let folder = try TemporaryFolder()
    let disk = FailingDisk()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, reserveBytes: 0, disk: disk)
    var file = try SpoolFile(creating: await spool.admit(trialID: "t1"), on: disk)
    for event in Messages.events("t1") { try file.append(event) }
    try file.synchronize()
    disk.die(after: moves)
    let bytes = file.bytes
    await #expect(throws: RobotError.self) { try await spool.file(trialID: "t1", bytes: bytes) }
    #expect(await !spool.discard(trialID: "t1"))
    for part in ["open", "ready"] {
      for name in try folder.names(part) {
        try FileManager.default.removeItem(atPath: "\(folder.path)/\(part)/\(name)")
      }
    }
    #expect(await spool.fileStranded().isEmpty, "a disk that says nothing does not say that it is gone")
    disk.refusesAll = false
    #expect(await spool.fileStranded() == ["t1"])
    #expect(spool.unkept == nil && spool.usage.trials == 0)
    try await spool.store("t2")
  }

  @Test func `a trial that lost its end is not filed`() async throws {
    let folder = try TemporaryFolder()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20, reserveBytes: 0)
    var file = try SpoolFile(creating: await spool.admit(trialID: "t1"), on: SystemDisk())
    for event in Messages.events("t1").dropLast() { try file.append(event) }
    try file.synchronize()
    let error = await #expect(throws: RobotError.self) { try await spool.fileAnew(trialID: "t1") }
    #expect(error?.code == .damaged)
    #expect(spool.usage.trials == 0)
  }
}
