import Foundation
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import MonitorCore
@testable import RobotCore

/// What an operator has to hear of reaches the monitor, whoever of the two was there first, and once.
extension AgentTests {
  @Test func `an event that was raised while no monitor ran arrives once, though answers get lost`()
    async throws
  {
    let service = try MonitorUnderTest()
    try await self.withAgent { robot, client in
      robot.report(safety: "orders-lost", trialID: "", detail: "orders.damaged-1")
      service.losesAnswers = true
      try await service.serve(on: self.sockets) { monitor in
        try await eventually("the event arrives") { await monitor.alerts.map(\.name) == ["WorkLost"] }
        let alert = try #require(await monitor.alerts.first)
        #expect(alert.summary.contains("orders.damaged-1"))
        // Nothing keeps it from being told again but that it is known.
        try await monitor.change { state, now, salt throws(MonitorError) in
          _ = try state.alerts.acknowledge(alert.alertID, by: "ana")
          state.tick(salt: salt, now: now, instant: .now)
        }
        #expect(robot.safety.waiting.count == 1, "the robot keeps what nobody confirmed")
      }
      service.losesAnswers = false
      try await service.serve(on: self.sockets) { monitor in
        try await eventually("the event is confirmed") { robot.safety.waiting.isEmpty }
        #expect(await monitor.alerts.map(\.state) == [.resolved])
        _ = try await client.stop(StopRequest(reason: "a hand in the cell"))
        try await eventually("the stop is told") {
          await monitor.alerts.contains { $0.name == "SafetyStop" && $0.summary.contains("a hand") }
        }
        #expect(await monitor.alerts.count == 2)
      }
    }
  }

  @Test func `what an agent could tell nobody is told by the next ones, once`() async throws {
    _ = try makeRobot(self.folder)
    try Data("no orders".utf8).write(to: URL(filePath: self.folder.path + "/work/orders"))
    // It finds the damage, and ends before a monitor runs.
    #expect(try makeRobot(self.folder).safety.waiting.map(\.kind) == ["orders-lost"])
    let service = try MonitorUnderTest()
    service.losesAnswers = true
    try await service.serve(on: self.sockets) { monitor in
      try await self.withAgent { _, _ in
        try await eventually("the event arrives") { await monitor.alerts.map(\.name) == ["WorkLost"] }
        let alert = try #require(await monitor.alerts.first)
        #expect(alert.summary.contains("orders.damaged-"))
        try await monitor.change { state, now, salt throws(MonitorError) in
          _ = try state.alerts.acknowledge(alert.alertID, by: "ana")
          state.tick(salt: salt, now: now, instant: .now)
        }
      }
      // That agent never heard that it was confirmed.
      service.losesAnswers = false
      try await self.withAgent { robot, _ in
        try await eventually("the event is confirmed") { robot.safety.waiting.isEmpty }
      }
      #expect(await monitor.alerts.map(\.state) == [.resolved])
    }
    #expect(try makeRobot(self.folder).safety.waiting.isEmpty)
  }

  @Test func `a robot is stopped before anything is written of it`() async throws {
    let disk = FailingDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    try await withService(robot) { client in
      // The first operation of the disk fails.
      disk.fail(after: 0)
      _ = try await client.stop(StopRequest(reason: "a hand in the cell"))
      #expect(robot.condition.unkept != nil && robot.safety.unkept == nil)
      #expect(robot.safety.waiting.map(\.detail) == ["a hand in the cell"])
    }
  }

  @Test func `events outlive the agent under their session, but for limits that held`() async throws {
    let disk = FailingDisk()
    let first = try makeRobot(self.folder, disk: disk)
    first.report(safety: "action-clipped", trialID: "t1", detail: "")
    first.report(safety: "trial-lost", trialID: "t1", detail: "its file is gone")
    let second = try makeRobot(self.folder, disk: disk)
    disk.refusesAll = true
    second.report(safety: "stop", trialID: "", detail: String(repeating: "\u{1F6D1}\u{301}", count: 9_000))
    #expect(second.safety.unkept?.contains("the test's disk is full") == true)
    #expect(try makeRobot(self.folder).safety.waiting.map(\.kind) == ["trial-lost"])
    disk.refusesAll = false
    let writing = Task { await second.keepWriting() }
    try await eventually("it is written again") { second.safety.unkept == nil }
    writing.cancel()
    await writing.value
    let third = try makeRobot(self.folder)
    third.report(safety: "stop", trialID: "", detail: "")
    let waiting = third.safety.waiting
    #expect(waiting.map(\.kind) == ["trial-lost", "stop", "stop"])
    #expect(waiting.map(\.number) == [2, 1, 1])
    #expect(Set(waiting.map(\.session)).count == 3)
    #expect(waiting.prefix(1) == first.safety.waiting.suffix(1))
    let reports = Mutex<[[SafetyEvent]]>([])
    let link = Task {
      await third.safety.drain(atMost: 64, together: { $0.session == $1.session }) { events in
        reports.withLock { $0.append(events) }
      }
    }
    try await eventually("all are taken") { third.safety.waiting.isEmpty }
    link.cancel()
    await link.value
    #expect(reports.withLock { $0 } == waiting.map { [$0] })
    #expect(try makeRobot(self.folder).safety.waiting.isEmpty)
  }

  @Test func `a filed trial that is damaged is told, and those beside it arrive`() async throws {
    let ingest = try IngestUnderTest()
    let service = try MonitorUnderTest()
    let robot = try makeRobot(self.folder)
    for trial in ["t1", "t2", "t3"] { try await robot.spool.store(trial) }
    truncate("\(self.folder.path)/spool/ready/000000000002_t2", 10)
    try await ingest.serve(on: self.sockets) {
      try await self.withAgent { robot, _ in
        try await service.serve(on: self.sockets) { monitor in
          try await eventually("it is told") { await monitor.alerts.map(\.name) == ["WorkLost"] }
          let alert = await monitor.alerts.first
          #expect(alert?.subject == "trials")
          #expect(alert?.summary.contains("spool/refused/000000000002_t2") == true)
        }
        try await eventually("the others are delivered") { robot.spool.usage.acknowledged == 2 }
      }
    }
    #expect(try await ingest.trials().keys.sorted() == ["t1", "t3"])
  }
}
