import Foundation
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// Somebody hears of each file that cannot be read any more, whatever ends the agent that finds it.
@Suite struct DamagedFilesTests {
  /// The machine's disk, which has no room for new files while it is told so.
  private final class FullDisk: DiskDouble {
    let inner = SystemDisk()
    private let full = Mutex(false)
    private let refused = Mutex<[String]>([])
    /// Files that it had no room for, each time.
    var refusals: [String] { self.refused.withLock { $0 } }
    var isFull: Bool {
      get { self.full.withLock { $0 } }
      set { self.full.withLock { $0 = newValue } }
    }

    func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
      if access == .create, self.isFull {
        self.refused.withLock { $0.append(path) }
        throw StorageError(.diskFull, "Cannot create \(path): no room.")
      }
      return try self.inner.open(path, access, mode: mode)
    }
  }

  private static let names = [
    (name: WorkQueue.fileName, kind: "orders-lost"), (name: KeptEvents.fileName, kind: "reports-lost"),
  ]
  private static let damage = Data("not as it was written".utf8)

  private func damage(_ name: String, in folder: TemporaryFolder) async throws {
    let robot = try makeRobot(folder)
    robot.report(safety: "trial-lost", trialID: "t1", detail: "its file is gone")
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1, 2]))
    try Self.damage.write(to: URL(filePath: "\(folder.path)/work/\(name)"))
  }

  /// The events of a robot's start, but for the one that was there before.
  private func told(in folder: TemporaryFolder) throws -> [SafetyEvent] {
    try makeRobot(folder).safety.waiting.filter { $0.kind != "trial-lost" }
  }

  @Test(arguments: Self.names) func `it is set aside and told once, also where the agent ends at any write`(
    name: String, kind: String
  ) async throws {
    let disk = FailingDisk()
    var deaths = 0
    repeat {
      let folder = try TemporaryFolder()
      try await self.damage(name, in: folder)
      disk.refusesAll = false
      disk.die(after: deaths)
      _ = try? makeRobot(folder, disk: disk)
      let events = try self.told(in: folder)
      #expect(events.map(\.kind) == [kind], "the agent ended after \(deaths) operations")
      let aside = try folder.names("work").filter { $0.hasPrefix("\(name).") }
      try #require(aside.count == 1 && aside[0].contains(".damaged-"), "\(aside)")
      #expect(events.first?.detail.contains("work/\(aside[0])") == true)
      #expect(try Data(contentsOf: URL(filePath: "\(folder.path)/work/\(aside[0])")) == Self.damage)
      deaths += 1
    } while disk.hasFailed
    #expect(deaths > 8, "it moves, writes and moves")
  }

  @Test(arguments: Self.names) func `it is told to the next agent where the disk keeps no events`(
    name: String, kind: String
  ) async throws {
    let folder = try TemporaryFolder()
    try await self.damage(name, in: folder)
    let disk = FullDisk()
    disk.isFull = true
    let first = try makeRobot(folder, disk: disk)
    #expect(first.safety.waiting.map(\.kind).contains(kind))
    #expect(first.heartbeat().unkept.contains("What the monitor has to hear of is not on the disk"))
    #expect(try folder.names("work").contains { $0.hasPrefix("\(name).untold-") })
    disk.isFull = false
    let writing = Task { await first.keepWriting() }
    try await eventually("it is kept") { first.heartbeat().unkept.isEmpty }
    try await eventually("it has its last name") {
      try folder.names("work").contains { $0.hasPrefix("\(name).damaged-") }
    }
    writing.cancel()
    await writing.value
    #expect(try self.told(in: folder).map(\.kind) == [kind])
  }

  @Test func `it is told once though somebody else wrote that it is told`() async throws {
    let folder = try TemporaryFolder()
    try await self.damage(WorkQueue.fileName, in: folder)
    let disk = FullDisk()
    disk.isFull = true
    let first = try makeRobot(folder, disk: disk)
    disk.isFull = false
    // As a stop does.
    await first.safety.keepAside()
    let writing = Task { await first.keepWriting() }
    try await eventually("it has its last name", within: .seconds(20)) {
      try folder.names("work").contains { $0.hasPrefix("\(WorkQueue.fileName).damaged-") }
    }
    writing.cancel()
    await writing.value
    #expect(first.safety.waiting.count { $0.kind == "orders-lost" } == 1)
    #expect(try self.told(in: folder).map(\.kind) == ["orders-lost"])
  }

  @Test func `work that nobody begins is told once, however long the disk refuses to keep that`() async throws
  {
    let folder = try TemporaryFolder()
    let disk = FullDisk()
    let robot = try makeRobot(folder, disk: disk)
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1]))
    for _ in 0..<WorkQueue.Limits.attempts {
      #expect(await robot.queue.next(within: .zero, modelVersion: "")?.seed == 1)
    }
    disk.isFull = true
    #expect(await robot.queue.next(within: .zero, modelVersion: "") == nil)
    let told = Mutex<[String]>([])
    let monitor = Task {
      await robot.safety.drain { events in told.withLock { $0 += events.map(\.kind) } }
    }
    let writing = Task { await robot.keepWriting() }
    // It tries to write the orders once a round.
    try await eventually("it has tried again and again") {
      disk.refusals.count { $0.contains("/work/orders") } > 4
    }
    #expect(told.withLock { $0 } == ["work-held"])
    disk.isFull = false
    try await eventually("it is kept that it was told") {
      let isHeard = await robot.queue.neverBegun.isEmpty
      return isHeard && robot.unkept == nil
    }
    for task in [monitor, writing] {
      task.cancel()
      await task.value
    }
    #expect(told.withLock { $0 } == ["work-held"])
    #expect(await robot.queue.neverBegun.isEmpty && robot.queue.counts.held == 1)
  }
}
