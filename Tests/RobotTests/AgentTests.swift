import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Storage
import TestSupport
import Testing

@testable import RobotCore

/// The agent over real sockets, with real control programs.
@Suite struct AgentTests {
  let sockets: Sockets
  let folder: TemporaryFolder

  init() throws {
    self.sockets = try Sockets()
    self.folder = try TemporaryFolder()
  }

  /// Runs an agent and its server in this process.
  func withAgent(
    disk: any Disk = SystemDisk(), configure: (inout AgentSettings) -> Void = { _ in },
    _ body: @Sendable @escaping (Robot, RobotService.Client<ZeroMQClientTransport>) async throws -> Void
  ) async throws {
    var robot = Robot.Configuration(identity: RobotIdentity(name: "r1"), folder: self.folder.path)
    robot.reserveBytes = 0
    var settings = AgentSettings(robot: robot, links: [try self.sockets.link()])
    settings.heartbeatInterval = .milliseconds(50)
    settings.reportInterval = .milliseconds(50)
    settings.delivery.acknowledgementTimeout = .seconds(2)
    settings.delivery.uploadPatience = .seconds(5)
    configure(&settings)
    let agent = try await RobotAgent(
      settings, security: { _ in .none },
      load: { manifest, _ in FixedPolicy(version: manifest.version) }, metrics: MetricsRegistry(),
      logger: Logger(label: "robot") { _ in SwiftLogNoOpLogHandler() }, disk: disk)
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: self.sockets.endpoint("robot")),
      services: [RobotServiceHandler(robot: agent.robot)])
    let client = GRPCClient(transport: try ZeroMQClientTransport(connect: self.sockets.endpoint("robot")))
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      group.addTask { try await client.runConnections() }
      group.addTask { try? await agent.run() }
      do { try await body(agent.robot, RobotService.Client(wrapping: client)) } catch {
        group.cancelAll()
        throw error
      }
      agent.robot.drain()
      client.beginGracefulShutdown()
      server.beginGracefulShutdown()
      group.cancelAll()
    }
  }

  func program(_ name: String, _ arguments: [String] = []) throws -> Child {
    try .python(
      [
        "deploy/robots/\(name)", "--agent", self.sockets.text("robot"), "--robot", "r1", "--parent",
        "\(getpid())",
      ]
        + arguments,
      output: self.folder.path + "/program.log")
  }

  @Test func bringsTrialsFromAControlProgramToIngest() async throws {
    let ingest = try IngestUnderTest()
    try await ingest.serve(on: self.sockets) {
      try await self.withAgent { robot, client in
        let program = try self.program("synthetic", ["--size", "64", "--steps", "5"])
        var order = Messages.order("o1", seeds: [1, 2, 3])
        order.options = ["noise": "0.2"]
        _ = try await client.enqueue(order)
        try await eventually("three trials are stored; the program said: \(program.text)") {
          try await ingest.trials().count == 3
        }
        try await eventually("the spool is empty") { robot.spool.usage.acknowledged == 3 }
        for events in try await ingest.trials().values {
          #expect(events.header?.orderID == "o1")
          #expect(events.steps.contains { $0.action != $0.expertAction })
          #expect(events.videos.allSatisfy { $0.codec == "h264" && $0.width == 64 })
        }
        program.signal(SIGTERM)
        try await program.wait()
        #expect(program.status == 0)
      }
    }
  }

  @Test func uploadsWhatAPublicationLost() async throws {
    let ingest = try IngestUnderTest()
    try await ingest.serve(on: self.sockets, streams: false) {
      try await self.withAgent(configure: { $0.delivery.acknowledgementTimeout = .milliseconds(100) }) {
        robot, client in
        try await robot.spool.store("t1")
        try await eventually("the trial is uploaded") { robot.spool.usage.acknowledged == 1 }
      }
    }
    #expect(try await ingest.trials() == ["t1": Messages.events("t1")])
    #expect(ingest.redelivered == 0)
  }

  @Test func `a stop that the disk refuses says so, and is written again until it is kept`() async throws {
    let disk = FailingDisk()
    try await self.withAgent(disk: disk) { robot, client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [1, 2]))
      disk.refusesAll = true
      let stopped = try await client.stop(StopRequest(reason: "a hand in the cell"))
      #expect(stopped.heartbeat?.state == .stopped && stopped.held == 2)
      #expect(stopped.heartbeat?.unkept.contains("the test's disk is full") == true)
      let forgetful = try makeRobot(self.folder)
      #expect(forgetful.condition.obstacle == nil, "a restart would forget it now")
      disk.refusesAll = false
      try await eventually("it is kept") {
        try await client.getStatus(GetRobotStatusRequest()).heartbeat?.unkept == ""
      }
      let again = try makeRobot(self.folder)
      #expect(again.condition.obstacle?.contains("a hand in the cell") == true)
      #expect(again.queue.counts.held == 2)
    }
  }

  @Test func saysHowItIsAndObeys() async throws {
    let telemetry = try Subscriber(
      .bind(self.sockets.endpoint("monitor.telemetry")), topics: [Topic("telemetry")])
    let directives = try Publisher(
      .bind(self.sockets.endpoint("monitor.publications")), identity: "monitor")
    try await self.withAgent { robot, client in
      var heartbeats = 0
      for await received in telemetry.messages {
        guard case .heartbeat(let heartbeat) = try received.decode(TelemetryEvent.self).event else {
          continue
        }
        #expect(heartbeat.robot == "r1" && heartbeat.link == "wired")
        heartbeats += 1
        // The subscription may still be on its way to the publisher.
        try await directives.publish(
          HealthDirective(robot: "r1", healthy: false, reason: "test", generation: 1), to: Topic("health/r1"))
        if heartbeat.state == .unhealthy { break }
        guard heartbeats < 400 else {
          Issue.record("the directive did not arrive")
          break
        }
      }
    }
    await telemetry.close()
    await directives.close()
  }

  /// Of an agent that knows of ingest only.
  private func agentArguments(data: String) -> [String] {
    [
      "robot.name=r1", "robot.rpc=\(self.sockets.text("robot"))", "robot.data=\(data)",
      "robot.acknowledgement-seconds=0.2", "process.parent=\(getpid())", "robot.reserve-bytes=0",
      "ingest.rpc=\(self.sockets.text("ingest.rpc"))", "ingest.trials=\(self.sockets.text("ingest.trials"))",
      "ingest.publications=\(self.sockets.text("ingest.publications"))", "inference.rpc=",
      "monitor.rpc=", "monitor.telemetry=", "monitor.publications=", "rollout.rpc=", "rollout.publications=",
    ].flatMap { ["--set", $0] }
  }

  @Test func keepsWhatItCalledDurableThroughAKill() async throws {
    let settings = self.agentArguments(data: self.folder.path + "/agent")
    let log = self.folder.path + "/agent.log"
    let client = GRPCClient(transport: try ZeroMQClientTransport(connect: self.sockets.endpoint("robot")))
    let robot = RobotService.Client(wrapping: client)
    let running = Task { try await client.runConnections() }
    let program = try self.program("synthetic", ["--size", "64", "--steps", "10", "--cadence", "50"])
    var filed: UInt64 = 0
    for round in 0..<3 {
      let agent = try Child.built("robot", settings, output: log)
      try await eventually("the agent is up; it said: \(agent.text)") { agent.text.contains("READY robot") }
      let seeds = (0..<20).map { UInt64(round * 100 + $0) }
      let order = Messages.order("o\(round)", seeds: seeds)
      // A call may still meet the connection to the agent that was killed.
      try await eventually("the order is taken") {
        (try? await robot.enqueue(order, options: .within(.seconds(5)))) != nil
      }
      let before = filed
      try await eventually("trials are filed; the agent said: \(agent.text) \(program.text)") {
        filed = try await robot.getStatus(GetRobotStatusRequest(), options: .within(.seconds(20))).filed
        return filed >= before + 2
      }
      agent.signal(SIGKILL)
      try await agent.wait()
    }
    program.signal(SIGTERM)
    try await program.wait()
    let ingest = try IngestUnderTest()
    let (atLeast, folder) = (filed, self.folder)
    try await ingest.serve(on: self.sockets) {
      let agent = try Child.built("robot", settings, output: log)
      try await eventually("all are delivered; the agent said: \(agent.text)", within: .seconds(40)) {
        try await ingest.trials().count >= Int(atLeast)
          && (try? folder.names("agent/spool/ready").isEmpty) == true
      }
      agent.signal(SIGTERM)
      try await agent.wait(within: .seconds(10))
      #expect(agent.status == 0)
    }
    client.beginGracefulShutdown()
    try await running.value
    #expect(filed >= 6)
  }

  @Test func losesNothingOnAFullDisk() async throws {
    let disk = self.folder.path + "/disk"
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    let script = "mount -t tmpfs -o size=400k none \(disk) && exec \"$@\""
    let folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().path
    let built = folder.contains(".build") ? folder : Child.root + "/.build/debug"
    let agent = try Child(
      "/usr/bin/unshare",
      ["--map-root-user", "--mount", "sh", "-c", script, "sh", "\(built)/robot"]
        + self.agentArguments(data: disk + "/data"),
      output: self.folder.path + "/agent.log", missing: "it is part of util-linux, which every Debian has.")
    try await eventually("the agent is up; it said: \(agent.text)") { agent.text.contains("READY robot") }
    let client = GRPCClient(transport: try ZeroMQClientTransport(connect: self.sockets.endpoint("robot")))
    let robot = RobotService.Client(wrapping: client)
    let running = Task { try await client.runConnections() }
    let program = try self.program("synthetic", ["--size", "128", "--steps", "20"])
    let count = 30
    _ = try await robot.enqueue(
      Messages.order("o1", seeds: (0..<UInt64(count)).map { $0 }), options: .within(.seconds(20)))
    try await eventually("the disk is full; the agent said: \(agent.text.suffix(2_000))") {
      agent.text.contains("trial dropped") || program.text.contains("RESOURCE_EXHAUSTED")
    }
    let full = try await robot.getStatus(GetRobotStatusRequest(), options: .within(.seconds(20)))
    #expect(full.filed > 0 && full.filed < UInt64(count))
    let ingest = try IngestUnderTest()
    try await ingest.serve(on: self.sockets) {
      try await eventually(
        "all trials are done; the agent said: \(agent.text.suffix(2_000))", within: .seconds(60)
      ) {
        try await ingest.trials().count == count
      }
    }
    let seeds = try await ingest.trials().values.compactMap { $0.header?.seed }
    #expect(Set(seeds).count == count, "each seed once")
    program.signal(SIGTERM)
    agent.signal(SIGTERM)
    try await program.wait()
    try await agent.wait()
    client.beginGracefulShutdown()
    try await running.value
  }

  @Test func recordsAnExpertOfMetaWorld() async throws {
    try await self.withAgent { robot, client in
      let program = try self.program("metaworld")
      var order = Messages.order("o1", seeds: [5], maxSteps: 200)
      order.task = "drawer-close-v3"
      _ = try await client.enqueue(order)
      try await eventually("the trial is filed; the program said: \(program.text)", within: .seconds(80)) {
        robot.spool.usage.filed == 1
      }
      let entry = try #require(await robot.spool.pending.first)
      let events = try #require(try await robot.spool.events(of: entry.trialID))
      #expect(events.end?.outcome == .success, "drawer-close's expert succeeds on every layout tried")
      #expect(events.header?.imageWidth == 224 && events.header?.controlHertz == 80)
      #expect((20...200).contains(events.steps.count))
      #expect(events.videos.reduce(0) { $0 + Int($1.frames) } == events.steps.count)
      #expect(
        events.steps.allSatisfy { $0.action == $0.expertAction && $0.action.allSatisfy { abs($0) <= 1 } })
      let first = try #require(events.steps.first)
      let last = try #require(events.steps.last)
      #expect(zip(first.jointAngles, last.jointAngles).contains { abs($0 - $1) > 0.05 }, "the arm moved")
      program.signal(SIGTERM)
      try await program.wait()
      #expect(program.status == 0)
    }
  }

  @Test func itsControlProgramsPassTheirOwnTests() async throws {
    let tests = try Child.python(
      ["-B", "Tests/Interop/robot_programs_test.py"], output: self.folder.path + "/python.log")
    try await tests.wait()
    #expect(tests.status == 0, "\(tests.text)")
  }
}
