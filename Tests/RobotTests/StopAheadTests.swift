import Dispatch
import Foundation
import GRPCCore
import GRPCInProcessTransport
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// A stop waits for its own writes, and for nothing that anybody else wants of the robot.
@Suite("A stop goes ahead", .timeLimit(.minutes(5))) struct StopAheadTests {
  /// Lets nobody create files in one place while it is told so.
  private final class StuckDisk: DiskDouble {
    let inner = SystemDisk()
    private let place: String
    private let gate = DispatchGroup()
    private let counts = Mutex((isClosed: false, waiting: 0, made: 0))

    /// - Parameter place: what the paths have in them.
    init(_ place: String) { self.place = place }

    /// Calls that wait.
    var waiting: Int { self.counts.withLock { $0.waiting } }
    /// Files that were made.
    var made: Int { self.counts.withLock { $0.made } }

    func close() {
      self.counts.withLock { $0.isClosed = true }
      self.gate.enter()
    }

    func letGo() {
      let wasClosed = self.counts.withLock { counts in
        defer { counts.isClosed = false }
        return counts.isClosed
      }
      if wasClosed { self.gate.leave() }
    }

    func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
      if access == .create, path.contains(self.place) {
        self.counts.withLock { $0.waiting += 1 }
        self.gate.wait()
        self.counts.withLock {
          $0.waiting -= 1
          $0.made += 1
        }
      }
      return try self.inner.open(path, access, mode: mode)
    }
  }

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  /// Stops the robot while its disk is stuck. Where that waits for the disk, it is let go after a while.
  private func stop(_ client: RobotService.Client<InProcessTransport.Client>, _ disk: StuckDisk) async throws
    -> RobotStatus
  {
    let made = disk.made
    let patience = Task {
      try await Task.sleep(for: .seconds(5))
      disk.letGo()
    }
    defer { patience.cancel() }
    let status = try await client.stop(StopRequest(reason: "a hand in the cell"))
    #expect(disk.made == made, "nothing was written there before it")
    #expect(disk.waiting == 1)
    return status
  }

  @Test func `it is answered before the orders of others are written, and holds them all the same`()
    async throws
  {
    let disk = StuckDisk("/work/orders")
    let robot = try makeRobot(self.folder, disk: disk)
    let folder = self.folder
    try await withService(robot) { client in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<300 {
          group.addTask { _ = try await client.enqueue(Messages.order("old-\(number)", seeds: [1])) }
        }
        try await group.waitForAll()
      }
      disk.close()
      let accepted = try await withThrowingTaskGroup(of: Int.self) { group in
        for number in 0..<300 {
          group.addTask {
            do {
              _ = try await client.enqueue(Messages.order("new-\(number)", seeds: [1, 2]))
              return 2
            } catch let error as RPCError where error.code == .failedPrecondition { return 0 }
          }
          group.addTask {
            _ = try await client.cancelWork(CancelWorkRequest(orderID: "old-\(number)"))
            return 0
          }
        }
        try await eventually("the disk is stuck") { disk.waiting == 1 }
        let stopped = try await self.stop(client, disk)
        #expect(stopped.heartbeat?.state == .stopped)
        #expect(stopped.held == stopped.waiting && stopped.held > 0)
        // What it says outlives the agent already.
        let condition = try Data(contentsOf: URL(filePath: "\(folder.path)/work/condition.json"))
        #expect(String(decoding: condition, as: UTF8.self).contains("a hand in the cell"))
        let kept = KeptEvents(folder: "\(folder.path)/work", robot: "r1", disk: SystemDisk())
        #expect(kept.read(number: 0).events.map(\.kind) == ["stop"])
        disk.letGo()
        return try await group.reduce(0, +)
      }
      let status = try await client.resume(ResumeRequest())
      #expect(status.held == UInt32(accepted) && status.waiting == status.held)
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item == nil)
    }
    let again = try makeRobot(self.folder)
    #expect(again.queue.counts.held == robot.queue.counts.held, "also after a restart")
  }

  @Test func `it does not wait for the spool`() async throws {
    let disk = StuckDisk("/spool/open/")
    let robot = try makeRobot(self.folder, disk: disk)
    try await withService(robot) { client in
      disk.close()
      async let filed = robot.spool.store("t1", on: disk)
      try await eventually("the disk is stuck") { disk.waiting == 1 }
      #expect(try await self.stop(client, disk).filed == 0)
      disk.letGo()
      _ = try await filed
      #expect(try await client.getStatus(GetRobotStatusRequest()).filed == 1)
    }
  }

  @Test(arguments: ["/work/condition", "/work/safety"])
  func `it holds and is answered where the disk hangs, however many say it`(place: String) async throws {
    let disk = StuckDisk(place)
    let robot = try makeRobot(self.folder, disk: disk)
    // No task: those may be the ones that have no thread left.
    let patience = DispatchWorkItem { disk.letGo() }
    DispatchQueue.global().asyncAfter(deadline: .now() + 30, execute: patience)
    defer { patience.cancel() }
    try await withService(robot) { client in
      disk.close()
      let answers = try await withThrowingTaskGroup(of: RobotStatus.self) { group in
        for _ in 0..<ProcessInfo.processInfo.activeProcessorCount + 2 {
          group.addTask { try await client.stop(StopRequest(reason: "a hand in the cell")) }
        }
        return try await group.reduce(into: [RobotStatus]()) { $0.append($1) }
      }
      #expect(disk.made == 0 && disk.waiting == 1, "nobody waited for the disk")
      #expect(answers.allSatisfy { $0.heartbeat?.state == .stopped })
      #expect(answers.allSatisfy { $0.heartbeat?.unkept.contains("is not on the disk") == true })
      disk.letGo()
      try await eventually("it is kept") { robot.heartbeat().unkept.isEmpty }
    }
    let again = try makeRobot(self.folder)
    #expect(again.condition.obstacle?.contains("a hand in the cell") == true)
    #expect(again.safety.waiting.contains { $0.kind == "stop" })
  }

  @Test func `a step beyond a joint limit is answered before the disk has the stop`() async throws {
    let disk = StuckDisk("/work/condition")
    let robot = try makeRobot(self.folder, disk: disk)
    let patience = DispatchWorkItem { disk.letGo() }
    DispatchQueue.global().asyncAfter(deadline: .now() + 30, execute: patience)
    defer { patience.cancel() }
    disk.close()
    let answers = try await withService(robot) { client in
      let beyond = Messages.observe(0, joints: [3.3, 0, 0, 0, 0, 0, 0])
      return try await control(client, [Messages.start(), beyond, Messages.finish(.failure)])
    }
    #expect(disk.made == 0, "nobody waited for the disk")
    #expect(answers.compactMap(\.command).map(\.stop) == [true] && answers.last?.filed != nil)
    disk.letGo()
    try await eventually("it is kept") { robot.heartbeat().unkept.isEmpty }
    #expect(try makeRobot(self.folder).condition.obstacle != nil)
  }

  @Test func `it is not lifted by a resume that was said before it`() async throws {
    let disk = StuckDisk("/work/orders")
    let robot = try makeRobot(self.folder, disk: disk)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [1]))
      _ = try await client.stop(StopRequest(reason: "lunch"))
      disk.close()
      async let resumed = client.resume(ResumeRequest(continueWork: true))
      try await eventually("the disk is stuck") { disk.waiting == 1 }
      _ = try await self.stop(client, disk)
      disk.letGo()
      let status = try await resumed
      #expect(status.heartbeat?.state == .stopped && status.heartbeat?.stopReason == "a hand in the cell")
      #expect(status.held == 1)
      #expect(try await client.resume(ResumeRequest()).held == 1)
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item == nil)
    }
  }

  @Test func `a queue that hears late of going on leaves what was held meanwhile`() async throws {
    let robot = try makeRobot(self.folder)
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1]))
    await robot.stop(reason: "lunch")
    robot.condition.resume(reason: "")
    await robot.condition.keep()
    // Stopped and resumed again before the first word to go on gets here.
    await robot.stop(reason: "a hand in the cell")
    robot.condition.resume(reason: "")
    await robot.condition.keep()
    await robot.queue.resume(continuing: true, after: 1)
    #expect(robot.queue.counts.held == 1)
    await robot.queue.resume(continuing: false, after: 2)
    #expect(robot.queue.counts.held == 1)
    await robot.queue.resume(continuing: true, after: 2)
    #expect(robot.queue.counts.held == 0)
  }

  @Test(arguments: [true, false]) func `what it held is held, wherever the agent ends while it is lifted`(
    isStop: Bool
  ) async throws {
    let disk = FailingDisk()
    var (deaths, worked) = (0, 0)
    repeat {
      let folder = try TemporaryFolder()
      let robot = try makeRobot(folder, disk: disk)
      _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1, 2]))
      if isStop {
        await robot.stop(reason: "a hand in the cell")
      } else {
        robot.condition.follow(HealthDirective(robot: "r1", healthy: false, generation: 1))
        await robot.condition.keep()
      }
      disk.die(after: deaths)
      if isStop {
        await robot.resume(continuing: false, reason: "")
      } else {
        await robot.follow(HealthDirective(robot: "r1", healthy: true, generation: 2))
      }
      let again = try makeRobot(folder)
      #expect(again.queue.counts.held == 2, "the agent ended after \(deaths) operations")
      if again.condition.obstacle == nil { worked += 1 }
      #expect(await again.queue.next(within: .zero, modelVersion: "") == nil)
      disk.refusesAll = false
      deaths += 1
    } while disk.hasFailed
    #expect(deaths > 8 && worked > 1, "it writes the orders, then that it may work")
  }

  @Test func `a program that waits for the robot's disk is not silent, and the operator hears why`()
    async throws
  {
    let disk = StuckDisk("/spool/")
    let robot = try makeRobot(self.folder, disk: disk) { $0.controlTimeout = .seconds(3) }
    let made = disk.made
    try await withService(robot) { client in
      let answers = try await client.control(
        requestProducer: { writer in
          try await writer.write(Messages.start())
          try await eventually("it has begun") { disk.made > made }
          disk.close()
          try await writer.write(contentsOf: [Messages.observe(0), Messages.finish()])
          try await eventually("the disk is stuck") { disk.waiting > 0 }
          let trial = try #require(robot.trials.current)
          try await eventually("it is told") {
            robot.heartbeat().unkept.contains("\(trial.trialID) has waited for the disk")
          }
          // Whoever takes the program for silent would end the trial by now.
          try await Task.sleep(for: .seconds(2))
          disk.letGo()
        },
        onResponse: { response in
          try await response.messages.reduce(into: [ControlResponse.Response]()) {
            if let answer = $1.response { $0.append(answer) }
          }
        })
      #expect(answers.last?.filed?.durable == true)
      #expect(robot.heartbeat().unkept.isEmpty)
    }
    let pending = await robot.spool.pending
    let trialID = try #require(pending.first?.trialID)
    let events = try #require(try await robot.spool.events(of: trialID))
    #expect(events.end?.outcome == .success)
  }

  @Test func `a trial that the robot lets nobody begin is no try of its program`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("a", seeds: [7]))
      for _ in 0..<WorkQueue.Limits.attempts + 1 {
        #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item?.seed == 7)
        try robot.trials.take(.init(trialID: "t0", modelVersion: nil))
        let error = await #expect(throws: RPCError.self) {
          try await control(client, [Messages.start(order: "a")])
        }
        #expect(error?.code == .failedPrecondition)
        robot.trials.release("t0")
      }
      #expect(await robot.queue.neverBegun.isEmpty)
    }
  }

  @Test func `no work is handed out while a trial is still being filed`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("a", seeds: [1]))
      try robot.trials.take(.init(trialID: "t0", modelVersion: nil))
      for _ in 0..<WorkQueue.Limits.attempts + 1 {
        #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item == nil)
      }
      robot.trials.release("t0")
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 5_000)).item?.seed == 1)
      #expect(await robot.queue.neverBegun.isEmpty)
    }
  }
}
