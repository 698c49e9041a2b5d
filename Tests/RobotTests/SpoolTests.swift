import Foundation
import Schemas
import TestSupport
import Testing

@testable import RobotCore

@Suite struct SpoolTests {
  @Test func keepsATrialUntilItIsRemoved() async throws {
    let folder = try TemporaryFolder()
    let spool = try Spool(folder: folder.path, limitBytes: 1 << 20)
    let entry = try await spool.store("t1")
    #expect(try await spool.events(of: "t1") == Messages.events("t1"))
    #expect(await spool.usage.trials == 1)
    #expect(await spool.usage.bytes == entry.bytes)
    #expect(await spool.remove("t1"))
    #expect(await !spool.remove("t1"))
    #expect(try await spool.events(of: "t1") == nil)
    #expect(await spool.usage == .init(trials: 0, bytes: 0, filed: 1, acknowledged: 1, refused: 0))
  }

  @Test func survivesARestartWithItsNumbers() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    for trial in ["t1", "t2", "t3", "t4"] { try await first.store(trial) }
    await first.remove("t2")
    try await first.refuse("t3", reason: "no such task")
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(await again.pending.map(\.trialID) == ["t1", "t4"])
    let before = await first.usage
    #expect(await again.usage == before)
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
    #expect(await again.usage.filed == 1)
    #expect(await again.usage.acknowledged == 0)
  }

  @Test func dropsWhatACrashCutShort() async throws {
    let folder = try TemporaryFolder()
    let first = try Spool(folder: folder.path, limitBytes: 1 << 20)
    var file = try SpoolFile(creating: await first.admit(trialID: "t1"))
    try file.append(Messages.events("t1")[0])
    let again = try Spool(folder: folder.path, limitBytes: 1 << 20)
    #expect(await again.usage.trials == 0)
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
    #expect(error?.code == .diskFailed)
  }

  @Test func tellsOfADiskThatRefusesAWrite() throws {
    let folder = try TemporaryFolder()
    #expect(throws: RobotError.self) { _ = try SpoolFile(creating: folder.path + "/missing/trial").bytes }
    #expect(throws: RobotError.self) { try DiskFolder.replace(folder.path + "/missing/x", with: Data([1])) }
  }
}
