import Artifacts
import Foundation
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// What a crash left of files that were being written, and the disk does not let go.
@Suite struct LeftoverTests {
  /// The machine's disk, which deletes nothing while it is told so.
  private final class StickyDisk: DiskDouble {
    let inner = SystemDisk()
    private let sticks = Mutex(false)
    var isSticky: Bool {
      get { self.sticks.withLock { $0 } }
      set { self.sticks.withLock { $0 = newValue } }
    }

    func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
      try self.inner.open(path, access, mode: mode)
    }

    func remove(_ path: String) throws(StorageError) {
      if self.isSticky { throw StorageError(.denied, "Cannot delete \(path): it sticks.") }
      try self.inner.remove(path)
    }
  }

  private let folder: TemporaryFolder
  private let disk = StickyDisk()

  init() throws { self.folder = try TemporaryFolder() }

  private func leave(_ names: [String]) throws {
    for name in names { try Data([1]).write(to: URL(filePath: "\(self.folder.path)/\(name)")) }
  }

  private func areGone(_ names: [String]) -> Bool {
    names.allSatisfy { !FileManager.default.fileExists(atPath: "\(self.folder.path)/\($0)") }
  }

  @Test func `a robot starts, takes none of it for a trial, tells of it and deletes it`() async throws {
    let first = try makeRobot(self.folder)
    for trial in ["t1", "t2"] { try await first.spool.store(trial) }
    try await first.spool.refuse("t1", reason: "no such task")
    let left = [
      "spool/open/t3", "spool/ledger.json.9.partial", "spool/ready/000000000007_t7.9.partial",
      "spool/refused/000000000001_t1.9.partial", "spool/refused/000000000001_t1.reason.9.partial",
      "work/condition.json.9.partial", "work/.dat.nosync1f.x",
    ]
    try self.leave(left)
    self.disk.isSticky = true
    let robot = try makeRobot(self.folder, disk: self.disk)
    #expect(await robot.spool.pending.map(\.trialID) == ["t2"])
    let usage = robot.spool.usage
    #expect(usage.filed == 2 && usage.refused == 1 && usage.acknowledged == 0)
    let heartbeat = robot.heartbeat()
    #expect(heartbeat.unkept.contains("7 files") && heartbeat.unkept.contains("spool/ledger.json.9.partial"))
    #expect(try await robot.spool.store("t4", on: self.disk).ordinal == 3)
    self.disk.isSticky = false
    let writing = Task { await robot.keepWriting() }
    try await eventually("it is deleted") { robot.heartbeat().unkept.isEmpty }
    writing.cancel()
    await writing.value
    #expect(self.areGone(left))
    #expect(await (try makeRobot(self.folder)).spool.pending.map(\.trialID) == ["t2", "t4"])
  }

  @Test func `one that stays keeps no other from being deleted, nor the models from the robot`() throws {
    let robot = try makeRobot(self.folder, disk: self.disk)
    let models = "\(self.folder.path)/models"
    try FileManager.default.createDirectory(atPath: models, withIntermediateDirectories: true)
    let left = ["models/memory.9.partial", "models/memory.8.partial"]
    try self.leave(left)
    self.disk.isSticky = true
    _ = try ModelKeeper(
      folder: models, disk: self.disk, leftovers: robot.leftovers, trust: { .init(keys: []) },
      load: { _, _ in FixedPolicy() })
    #expect(robot.leftovers.unkept?.contains("2 files") == true)
    self.disk.isSticky = false
    robot.leftovers.removeAgain()
    #expect(robot.leftovers.unkept == nil)
    #expect(self.areGone(left))
  }
}
