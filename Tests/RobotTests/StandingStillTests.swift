import Foundation
import GRPCCore
import GRPCInProcessTransport
import Schemas
import TestSupport
import Testing

@testable import RobotCore

/// No robot moves for work that was given, or that waited, while it stood still, unless it is told so.
@Suite struct StandingStillTests {
  private typealias Client = RobotService.Client<InProcessTransport.Client>

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private func next(_ client: Client) async throws -> WorkItem? {
    try await client.nextWork(NextWorkRequest(waitMillis: 1)).item
  }

  @Test func `work given to a stopped robot is refused, and says why`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.stop(StopRequest(reason: "someone is near"))
      let error = await #expect(throws: RPCError.self) {
        try await client.enqueue(Messages.order("o1", seeds: [1]))
      }
      #expect(error?.code == .failedPrecondition)
      #expect(error?.message.contains("someone is near") == true)
      _ = try await client.resume(ResumeRequest(continueWork: true))
      #expect(try await self.next(client) == nil)
    }
  }

  @Test func `what waited when the stop came is not done on resume, until somebody says so`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [1, 2]))
      // Handed out and not begun: its program may still ask to begin it.
      #expect(try await self.next(client)?.seed == 1)
      let stopped = try await client.stop(StopRequest(reason: "someone is near"))
      #expect(stopped.waiting == 2 && stopped.held == 2)
      let resumed = try await client.resume(ResumeRequest())
      #expect(resumed.heartbeat?.state == .idle && resumed.held == 2)
      #expect(try await self.next(client) == nil)
      await #expect(throws: RPCError.self) {
        try await control(client, [Messages.start(order: "o1", seed: 1)])
      }
      let listed = try await client.listWork(ListWorkRequest())
      #expect(listed.orders.map(\.held) == [true] && listed.orders.map(\.trials) == [2] && listed.total == 1)
      _ = try await client.enqueue(Messages.order("o2", seeds: [9]))
      #expect(try await self.next(client)?.seed == 9, "new work does not wait behind what is held")
      try await robot.queue.finished(orderID: "o2", seed: 9)
      #expect(try await client.resume(ResumeRequest(continueWork: true)).held == 0)
      #expect(try await self.next(client)?.seed == 1)
    }
  }

  @Test func `held work is held after a restart, too, and can be cancelled`() async throws {
    let robot = try makeRobot(self.folder)
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1]))
    // The agent ends between its two files.
    robot.condition.stop(reason: "lightning")
    await robot.condition.keep()
    let again = try makeRobot(self.folder)
    #expect(again.queue.counts.held == 1)
    await again.resume(continuing: false, reason: "")
    #expect(await again.queue.next(within: .zero, modelVersion: "") == nil)
    let last = try makeRobot(self.folder)
    #expect(last.queue.counts.held == 1)
    try await last.queue.cancel(orderID: "o1")
    #expect(last.queue.counts.held == 0)
    #expect(await last.queue.open(atMost: 9).total == 0)
  }

  @Test func `work that is meant for afterwards is done afterwards, and held by the next stop`() async throws
  {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.stop(StopRequest(reason: "lunch"))
      var order = Messages.order("o1", seeds: [1, 2])
      order.whenResumed = true
      #expect(try await client.enqueue(order).waiting == 2)
      #expect(try await self.next(client) == nil)
      #expect(try await client.resume(ResumeRequest()).held == 0)
      #expect(try await self.next(client)?.seed == 1)
      #expect(try await client.stop(StopRequest(reason: "again")).held == 2)
      _ = try await client.resume(ResumeRequest())
      #expect(try await self.next(client) == nil)
    }
  }

  @Test func `work for afterwards is held by the next stop, though the agent ended while it was resumed`()
    async throws
  {
    let robot = try makeRobot(self.folder)
    await robot.stop(reason: "lunch")
    var order = Messages.order("o1", seeds: [1])
    order.whenResumed = true
    _ = try await robot.queue.enqueue(order)
    // The agent ends between its two files.
    robot.condition.resume(reason: "")
    await robot.condition.keep()
    let again = try makeRobot(self.folder)
    await again.stop(reason: "lightning")
    #expect(again.queue.counts.held == 1)
  }

  @Test func `an unhealthy robot goes on with nothing that waited, though the monitor lets it back`()
    async throws
  {
    let robot = try makeRobot(self.folder)
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1]))
    await robot.follow(HealthDirective(robot: "r1", healthy: false, reason: "6 failures", generation: 1))
    // A stop is lifted while the robot is still unhealthy: nobody may go on.
    await robot.resume(continuing: true, reason: "")
    await robot.follow(HealthDirective(robot: "r1", healthy: true, generation: 2))
    #expect(await robot.queue.next(within: .zero, modelVersion: "") == nil)
    await robot.resume(continuing: true, reason: "")
    #expect(await robot.queue.next(within: .zero, modelVersion: "")?.seed == 1)
  }

  @Test func `a health directive that is heard again writes nothing and keeps the count of failures`()
    async throws
  {
    let robot = try makeRobot(self.folder)
    _ = try await robot.queue.enqueue(Messages.order("o1", seeds: [1]))
    for generation in 1...2 as ClosedRange<UInt64> {
      let directive = HealthDirective(
        robot: "r1", healthy: generation == 2, reason: "6 failures", generation: generation)
      await robot.follow(directive)
      robot.vitals.trialEnded(.failure)
      let written = try self.folder.names("work")
      #expect(written.contains("condition.json") && written.contains("vitals.json"))
      for name in written {
        try FileManager.default.removeItem(atPath: "\(self.folder.path)/work/\(name)")
      }
      await robot.follow(directive)
      #expect(try self.folder.names("work") == [])
      #expect(robot.heartbeat().consecutiveFailures == 1)
    }
  }

  @Test func `a robot that never heard that it was unhealthy is repaired all the same`() async throws {
    let robot = try makeRobot(self.folder)
    for _ in 0..<6 { robot.vitals.trialEnded(.failure) }
    await robot.follow(HealthDirective(robot: "r1", healthy: true, generation: 2))
    #expect(robot.heartbeat().consecutiveFailures == 0)
  }

  @Test func `heartbeats say why a robot stands still, and why it was resumed`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      #expect(
        try await client.stop(StopRequest(reason: "someone is near")).heartbeat?.stopReason
          == "someone is near")
      let resumed = try await client.resume(ResumeRequest(reason: "they left (ada)")).heartbeat
      #expect(resumed?.stopReason == "" && resumed?.resumeReason == "they left (ada)")
    }
    #expect(try makeRobot(self.folder).heartbeat().resumeReason == "they left (ada)")
    await robot.stop(reason: "")
    let heartbeat = robot.heartbeat()
    #expect(heartbeat.stopReason == "no reason given" && heartbeat.resumeReason == "")
  }

  @Test func `a task that the program does not offer is refused with those that it does`() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [1]))
      _ = try await client.nextWork(NextWorkRequest(waitMillis: 1, tasks: ["push-v3", "door-open-v3"]))
      let error = await #expect(throws: RPCError.self) {
        try await client.enqueue(Messages.order("o2", seeds: [1]))
      }
      #expect(error?.code == .invalidArgument)
      #expect(error?.message.contains("door-open-v3, push-v3") == true)
      // A program of an older kind says nothing; what was said before still holds.
      _ = try await client.nextWork(NextWorkRequest(waitMillis: 1))
      let status = try await client.getStatus(GetRobotStatusRequest())
      #expect(status.tasks == ["door-open-v3", "push-v3"] && status.waiting + status.running == 1)
      let many = await #expect(throws: RPCError.self) {
        try await client.nextWork(
          NextWorkRequest(waitMillis: 1, tasks: (0...OfferedTasks.maximumCount).map { "t\($0)" }))
      }
      #expect(many?.code == .invalidArgument)
    }
  }

  @Test func `a reason takes little, however few its characters`() async throws {
    let folder = try TemporaryFolder()
    let endless = "a" + String(repeating: "\u{301}", count: 2_000_000)
    let condition = try Condition(folder: folder.path)
    condition.stop(reason: endless)
    condition.follow(HealthDirective(robot: "r1", healthy: false, reason: endless, generation: 1))
    await condition.keep()
    var heartbeat = Heartbeat()
    try Condition(folder: folder.path).describe(in: &heartbeat, working: false)
    #expect(heartbeat.stopReason.unicodeScalars.first == "a" && heartbeat.stopReason.utf8.count < 1_000)
    condition.resume(reason: endless)
    condition.describe(in: &heartbeat, working: false)
    #expect(heartbeat.resumeReason.utf8.count < 1_000 && (condition.obstacle ?? "").utf8.count < 1_000)
  }
}
