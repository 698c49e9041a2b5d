import Foundation
import GRPCCore
import Schemas
import Synchronization
import TestSupport
import Testing

@testable import FleetCore

@Suite("WorkDispatcher", .timeLimit(.minutes(5)))
struct WorkDispatcherTests {
  private func work(
    _ count: Int, on robots: [String], _ clients: FleetClients, limit: Duration = .seconds(120),
    progress: ProgressReport = ProgressReport(isTerminal: false)
  ) async throws -> [TrialSummary] {
    let dispatcher = WorkDispatcher(clients: clients, maximumSteps: 10, progress: progress)
    let units = (0..<count).map { WorkUnit(task: "reach", mode: .demonstration, seed: UInt64($0)) }
    return try await dispatcher.run("work", units: units, robots: robots, work: "work-7", limit: limit)
  }

  @Test func `a robot whose disk is full ends nobody's work`() async throws {
    let ingest = FakeIngest()
    let full = FakeRobot { _ in throw RPCError(code: .resourceExhausted, message: "no room on the disk") }
    let well = FakeRobot { order in
      ingest.store(robot: "r2", version: "v1", order: order.orderID, outcomes: [.success])
    }
    let trials = try await FakeFleet().run(
      robots: ["r1": full, "r2": well], services: [FakeMonitor(robots: ["r1", "r2"]), ingest]
    ) { try await self.work(6, on: ["r1", "r2"], $0) }
    #expect(trials.count == 6)
  }

  @Test func `a robot that hangs holds up nobody's work`() async throws {
    let ingest = FakeIngest()
    // Calls to the robot that hangs that wait for their answer, and whether the other was given work meanwhile.
    let waiting = Mutex(0)
    let wentOn = Mutex(false)
    let hung = FakeRobot(
      onEnqueue: { _ in throw RPCError(code: .deadlineExceeded, message: "") },
      onCancel: {
        waiting.withLock { $0 += 1 }
        defer { waiting.withLock { $0 -= 1 } }
        try await Task.sleep(for: .seconds(3_600))
      })
    let well = FakeRobot { order in
      if waiting.withLock({ $0 }) > 0 { wentOn.withLock { $0 = true } }
      ingest.store(robot: "r2", version: "v1", order: order.orderID, outcomes: [.success])
    }
    let told = Pipe()
    let progress = ProgressReport(isTerminal: false, output: told.fileHandleForWriting)
    let trials = try await FakeFleet().run(
      robots: ["r1": hung, "r2": well], services: [FakeMonitor(robots: ["r1", "r2"]), ingest]
    ) { try await self.work(20, on: ["r1", "r2"], $0, progress: progress) }
    #expect(trials.count == 20)
    #expect(wentOn.withLock { $0 })
    try told.fileHandleForWriting.close()
    let text = String(decoding: try told.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    #expect(text.contains("r1 did not answer and may still do trials"), "\(text)")
  }

  @Test func `a robot's reasons are told once each`() async throws {
    let ingest = FakeIngest()
    let calls = Mutex(0)
    let robot = FakeRobot { order in
      let call = calls.withLock { count in
        count += 1
        return count
      }
      if call == 1 { throw RPCError(code: .deadlineExceeded, message: "") }
      if call < 5 { throw RPCError(code: .resourceExhausted, message: "\(call) bytes are free") }
      ingest.store(robot: "r1", version: "v1", order: order.orderID, outcomes: [.success])
    }
    let told = Pipe()
    let progress = ProgressReport(isTerminal: false, output: told.fileHandleForWriting)
    _ = try await FakeFleet().run(
      robots: ["r1": robot], services: [FakeMonitor(robots: ["r1"]), ingest]
    ) { try await self.work(2, on: ["r1"], $0, progress: progress) }
    try told.fileHandleForWriting.close()
    let text = String(decoding: try told.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    #expect(text.contains("r1 takes no work: it does not answer"), "\(text)")
    #expect(text.contains("r1 takes no work: 2 bytes are free"), "\(text)")
    #expect(text.components(separatedBy: "r1 takes no work").count == 3, "\(text)")
  }

  /// They send telemetry, but nobody listens where they are called.
  @Test func `robots that hang do not keep work from being given up, and are named once`() async throws {
    let told = Pipe()
    let progress = ProgressReport(isTerminal: false, output: told.fileHandleForWriting)
    await #expect {
      try await FakeFleet().run(
        robots: [:], configured: "r1,r2", services: [FakeMonitor(robots: ["r1", "r2"]), FakeIngest()]
      ) { _ = try await self.work(4, on: ["r1", "r2"], $0, limit: .seconds(8), progress: progress) }
    } throws: {
      ($0 as? FleetError)?.code == .timedOut
    }
    try told.fileHandleForWriting.close()
    let text = String(decoding: try told.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    for robot in ["r1", "r2"] {
      #expect(text.components(separatedBy: "\(robot) takes no work").count == 2, "\(text)")
    }
  }

  @Test func `an order that a robot calls senseless ends the work`() async throws {
    let robot = FakeRobot { _ in throw RPCError(code: .invalidArgument, message: "no such task") }
    await #expect(throws: RPCError.self) {
      try await FakeFleet().run(
        robots: ["r1": robot], services: [FakeMonitor(robots: ["r1"]), FakeIngest()]
      ) { _ = try await self.work(1, on: ["r1"], $0) }
    }
  }

  /// As one that was started anew says until it heard of them.
  @Test(arguments: [RobotState.offline, .unspecified])
  func `a monitor that does not know its robots takes no work from them`(state: RobotState) async throws {
    let ingest = FakeIngest()
    let looks = Mutex(0)
    let orders = Mutex<[String]>([])
    let done = Mutex<Set<String>>([])
    let robot = FakeRobot { order in orders.withLock { $0.append(order.orderID) } }
    let monitor = FakeMonitor(
      robots: ["r1"],
      state: {
        let look = looks.withLock { count in
          count += 1
          return count
        }
        // The robot may be given its orders after any look.
        for order in look < 5 ? [] : orders.withLock({ $0 })
        where done.withLock({ $0.insert(order).inserted }) {
          ingest.store(robot: "r1", version: "v1", order: order, outcomes: [.success])
        }
        return look == 1 ? .idle : state
      })
    let trials = try await FakeFleet().run(robots: ["r1": robot], services: [monitor, ingest]) {
      try await self.work(2, on: ["r1"], $0)
    }
    #expect(Set(trials.compactMap { $0.header?.orderID }) == ["work-7-1", "work-7-2"])
    #expect(orders.withLock { $0.count } == 2)
    #expect(robot.cancelled.isEmpty)
  }
}
