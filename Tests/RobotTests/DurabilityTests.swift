import Foundation
import Schemas
import SimulationKit
import Storage
import TestSupport
import Testing

@testable import RobotCore

/// What a robot keeps, on a disk that loses what was not synced, and on one that was damaged.
@Suite struct DurabilityTests {
  @Test func `a stop, accepted orders and filed trials survive a power cut`() async throws {
    for seed in 0..<200 as Range<UInt64> {
      let host = SimulatedHost("robot", in: Simulation(seed: seed))
      let before = host.boot().disk
      let condition = try Condition(folder: "/robot/work", disk: before)
      let queue = try WorkQueue(folder: "/robot/work", disk: before)
      let spool = try Spool(folder: "/robot/spool", limitBytes: 1 << 20, disk: before)
      // Each replaces a file that was there before: the old one must not come back.
      condition.stop(reason: "first")
      await condition.keep()
      condition.resume(reason: "")
      await condition.keep()
      _ = try await queue.enqueue(Messages.order("o1", seeds: [1]))
      condition.stop(reason: "a hand in the cell")
      await condition.keep()
      _ = try await queue.enqueue(Messages.order("o2", seeds: [2, 3]))
      try await spool.store("t1", on: before)
      host.die(.powerCut)
      let after = host.boot().disk
      #expect(
        try Condition(folder: "/robot/work", disk: after).obstacle?.contains("a hand in the cell") == true)
      #expect(try WorkQueue(folder: "/robot/work", disk: after).counts.waiting == 3)
      let again = try Spool(folder: "/robot/spool", limitBytes: 1 << 20, disk: after)
      #expect(try await again.events(of: "t1") == Messages.events("t1"))
    }
  }

  @Test(arguments: ["", "{", "[]", "{\"healthGeneration\": 0}", "\u{0}\u{0}\u{0}\u{0}"])
  func `a damaged condition means stopped, and says so`(content: String) async throws {
    let folder = try TemporaryFolder()
    let condition = try Condition(folder: folder.path)
    condition.stop(reason: "unsafe")
    await condition.keep()
    try Data(content.utf8).write(to: URL(filePath: folder.path + "/condition.json"))
    let damaged = try Condition(folder: folder.path)
    #expect(damaged.robotState(working: false) == .stopped)
    #expect(damaged.obstacle?.contains("condition.json is damaged") == true)
    #expect(try Condition(folder: folder.path).obstacle != nil, "it stays so until somebody resumes it")
    damaged.resume(reason: "looked at it")
    await damaged.keep()
    #expect(try Condition(folder: folder.path).obstacle == nil)
  }

  @Test func `no bit that is turned lets a stopped or unhealthy robot work`() async throws {
    let folder = try TemporaryFolder()
    let file = URL(filePath: folder.path + "/condition.json")
    let directive = HealthDirective(robot: "r1", healthy: false, reason: "6 failures", generation: 1)
    let causes: [(Condition) -> Void] = [
      { $0.stop(reason: "a hand in the cell") },
      { $0.follow(directive) },
    ]
    for cause in causes {
      try? FileManager.default.removeItem(at: file)
      let condition = try Condition(folder: folder.path)
      cause(condition)
      await condition.keep()
      let whole = try Data(contentsOf: file)
      for bit in 0..<whole.count * 8 {
        try whole.turning(bit).write(to: file)
        let damaged = try Condition(folder: folder.path)
        #expect(damaged.robotState(working: false) == .stopped, "bit \(bit)")
        #expect(damaged.obstacle?.contains("condition.json is damaged") == true, "bit \(bit)")
      }
    }
  }

  @Test func `what the disk refused holds, says so, and is written again until it is kept`() async throws {
    let host = SimulatedHost("robot", in: Simulation(seed: 1))
    let disk = host.boot().disk
    let directive = HealthDirective(robot: "r1", healthy: false, reason: "6 failures", generation: 1)
    let condition = try Condition(folder: "/robot/work", disk: disk)
    host.platter.faults.synchronize = 1
    #expect(condition.follow(directive))
    #expect(!condition.follow(directive), "a copy of it is no news")
    condition.stop(reason: "a hand in the cell")
    await condition.keep()
    for _ in 0..<2 {
      #expect(condition.isUnhealthy && condition.robotState(working: true) == .stopped)
      #expect(condition.unkept != nil)
      await condition.keep()
    }
    host.platter.faults.synchronize = 0
    await condition.keep()
    #expect(condition.unkept == nil)
    let again = try Condition(folder: "/robot/work", disk: disk)
    #expect(again.isUnhealthy && again.robotState(working: true) == .stopped)
  }

  @Test func `no bit that is turned gives held orders free`() async throws {
    let folder = try TemporaryFolder()
    let condition = try Condition(folder: folder.path)
    let queue = try WorkQueue(folder: folder.path) { condition.standing }
    _ = try await queue.enqueue(Messages.order("o1", seeds: [1, 2, 3]))
    condition.stop(reason: "a hand in the cell")
    await condition.keep()
    await queue.keep()
    let file = URL(filePath: folder.path + "/orders")
    let whole = try Data(contentsOf: file)
    for bit in 0..<whole.count * 8 {
      try whole.turning(bit).write(to: file)
      let damaged = try WorkQueue(folder: folder.path)
      #expect(await damaged.next(within: .zero, modelVersion: "") == nil, "bit \(bit)")
      #expect(damaged.counts.waiting == 0, "bit \(bit)")
    }
  }

  @Test func `damaged orders are kept aside and told, and the robot goes on without them`() async throws {
    let folder = try TemporaryFolder()
    _ = try await makeRobot(folder).queue.enqueue(Messages.order("o1", seeds: [1, 2, 3]))
    let path = folder.path + "/work/orders"
    let bytes = try Data(contentsOf: URL(filePath: path))
    for content in (0..<bytes.count).map({ bytes.prefix($0) }) {
      try content.write(to: URL(filePath: path))
      let robot = try makeRobot(folder)
      #expect(robot.queue.counts.waiting == 0)
      guard let event = robot.safety.waiting.last else {
        Issue.record("nobody is told of \(content.count) bytes")
        continue
      }
      #expect(event.kind == "orders-lost")
      let aside = try folder.names("work").filter { $0.hasPrefix("orders.damaged-") }
      #expect(aside.count == 1)
      #expect(event.detail.contains(aside[0]))
      #expect(try Data(contentsOf: URL(filePath: folder.path + "/work/" + aside[0])) == content)
      try FileManager.default.removeItem(atPath: folder.path + "/work/" + aside[0])
      #expect(try await robot.queue.enqueue(Messages.order("o2", seeds: [4])) == 1, "it takes new ones")
    }
  }

  @Test func `orders that are too large to be ours are kept aside as damaged ones are`() async throws {
    let folder = try TemporaryFolder()
    _ = try await makeRobot(folder).queue.enqueue(Messages.order("o1", seeds: [1]))
    let handle = try FileHandle(forWritingTo: URL(filePath: folder.path + "/work/orders"))
    try handle.truncate(atOffset: 65 << 20)
    try handle.close()
    let robot = try makeRobot(folder)
    #expect(robot.safety.waiting.map(\.kind) == ["orders-lost"])
    #expect(try folder.names("work").filter { $0.hasPrefix("orders.damaged-") }.count == 1)
    #expect(try await robot.queue.enqueue(Messages.order("o2", seeds: [2])) == 1, "it takes new ones")
  }

  @Test func `what crashes left of writing small files goes at the start`() throws {
    let folder = try TemporaryFolder()
    _ = try makeRobot(folder)
    let left = ["work/condition.json.7.partial", "work/.dat.nosync1f.x", "spool/ledger.json.9.partial"]
    for name in left { try Data([1]).write(to: URL(filePath: folder.path + "/" + name)) }
    _ = try makeRobot(folder)
    for name in left { #expect(!FileManager.default.fileExists(atPath: folder.path + "/" + name)) }
  }

  @Test func `a repaired robot does not count old failures again after a restart`() throws {
    let folder = try TemporaryFolder()
    let vitals = try Vitals(folder: folder.path)
    for _ in 0..<6 { vitals.trialEnded(.failure) }
    vitals.forgetFailures()
    var heartbeat = Heartbeat()
    try Vitals(folder: folder.path).describe(in: &heartbeat)
    #expect(heartbeat.consecutiveFailures == 0)
  }

  @Test func `numbers at their end do not end the agent`() throws {
    let folder = try TemporaryFolder()
    let kept = "{\"trialsStarted\": \(UInt64.max), \"consecutiveFailures\": \(UInt32.max)}"
    try CheckedFile.write(Data(kept.utf8), to: folder.path + "/vitals.json")
    let vitals = try Vitals(folder: folder.path)
    vitals.trialStarted()
    vitals.trialEnded(.failure)
    var heartbeat = Heartbeat()
    vitals.describe(in: &heartbeat)
    #expect(heartbeat.consecutiveFailures == .max)
  }
}
