import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import FleetCore

@Suite("Everybody", .timeLimit(.minutes(5)))
struct EverybodyTests {
  private func stopAll(_ clients: FleetClients) async throws -> RobotSelection.Answers<RobotDeed> {
    try await Robots.Stop.stop(.all, clients, StopRequest(reason: "someone is near"))
  }

  @Test func `a robot that only the monitor knows is not known to be stopped`() async throws {
    let robot = FakeRobot()
    let monitor = FakeMonitor(robots: ["r1", "far"])
    let deeds = try await FakeFleet().run(robots: ["r1": robot], services: [monitor]) {
      try await self.stopAll($0)
    }
    #expect(deeds.answers.map(\.robot) == ["r1", "far"])
    #expect(deeds.answers.map(\.done) == [true, false])
    #expect(
      deeds.answers[1].detail.hasPrefix("IS NOT KNOWN TO BE STOPPED: no address"), "\(deeds.answers[1])")
    #expect(deeds.answers[1].detail.contains("far=tcp://HOST:PORT"))
    #expect(deeds.doubt == nil)
    #expect(throws: (any Error).self) { try RobotDeed.show(deeds, json: false) }
  }

  @Test func `robots are stopped before the monitor has said who there is`() async throws {
    let robot = FakeRobot()
    // It answers in time only where the robot was not kept waiting for it.
    let monitor = FakeMonitor(robots: ["r1"]) { robot.stops > 0 }
    let deeds = try await FakeFleet().run(robots: ["r1": robot], services: [monitor]) {
      try await self.stopAll($0)
    }
    #expect(deeds.doubt == nil)
    #expect(deeds.answers.map(\.done) == [true])
    try RobotDeed.show(deeds, json: false)
  }

  @Test func `a monitor that hangs is told, and robots are stopped all the same`() async throws {
    let robot = FakeRobot()
    let deeds = try await FakeFleet().run(robots: ["r1": robot], services: [FakeMonitor { false }]) {
      try await self.stopAll($0)
    }
    #expect(robot.stops == 1)
    #expect(deeds.answers.map(\.done) == [true])
    #expect(deeds.doubt?.contains("the monitor does not answer") == true)
    #expect(throws: (any Error).self) { try RobotDeed.show(deeds, json: false) }
  }

  @Test func `an endpoint that is wrong keeps no other robot from being stopped`() async throws {
    let robot = FakeRobot()
    let deeds = try await FakeFleet().run(
      robots: ["r1": robot], configured: "r2=nonsense,r1", services: [FakeMonitor()]
    ) { try await self.stopAll($0) }
    #expect(deeds.answers.map(\.robot) == ["r2", "r1"])
    #expect(deeds.answers.map(\.done) == [false, true])
    #expect(deeds.answers[0].detail.contains("nonsense"), "\(deeds.answers[0])")
  }

  @Test func `more robots than the process has descriptors for are stopped all the same`() async throws {
    let robots = Dictionary(uniqueKeysWithValues: (1...40).map { ("r\($0)", FakeRobot()) })
    let fleet = try FakeFleet()
    let result = try await fleet.run(robots: robots, services: [FakeMonitor()]) { _ in
      try fleet.write(robots: robots.keys.sorted())
      return try await Program.run(
        "/usr/bin/prlimit",
        ["--nofile=256", Program.built("fleet"), "robots", "stop", "--all", "--data", fleet.folder.path])
    }
    #expect(result.status == 0, "\(result.output) \(result.errors)")
    #expect(robots.values.allSatisfy { $0.stops == 1 })
  }

  /// One agent stands for all that hang: they answer nobody before the live one is stopped.
  @Test func `robots that hang keep none behind them from being stopped, and are asked again`() async throws {
    let live = FakeRobot()
    let hung = FakeRobot(onStop: { while live.stops == 0 { try await Task.sleep(for: .milliseconds(20)) } })
    let fleet = try FakeFleet()
    let names = (101...170).map { "a\($0)=ipc://\(fleet.folder.path)/robot-hung" } + ["live"]
    let deeds = try await fleet.run(
      robots: ["hung": hung, "live": live], configured: names.joined(separator: ","),
      services: [FakeMonitor()]
    ) {
      try await Robots.Stop.stop(
        .all, $0, StopRequest(reason: "someone is near"), passes: [.seconds(2), .seconds(20)])
    }
    #expect(deeds.answers.map(\.robot).last == "live" && deeds.answers.count == 71)
    let silent = deeds.answers.filter { !$0.done }
    #expect(silent.isEmpty, "\(silent)")
  }

  @Test func `lines are few, however many descriptors there may be`() {
    #expect(RobotLines.lines(descriptors: 0) == 1)
    #expect(RobotLines.lines(descriptors: 256) == 16)
    #expect(RobotLines.lines(descriptors: 1 << 20) <= 64)
  }

  @Test func `nobody is no success`() async throws {
    await #expect {
      try await FakeFleet().run(robots: [:], services: [FakeMonitor()]) { try await self.stopAll($0) }
    } throws: {
      ($0 as? FleetError)?.code == .refused && "\($0)".contains("No robot is known")
    }
    await #expect {
      try await FakeFleet().run(robots: [:], services: [FakeMonitor()]) {
        try await Work.Cancel.cancel(nil, on: [], $0)
      }
    } throws: {
      "\($0)".contains("No robot is known")
    }
  }
}

@Suite("What resume says", .timeLimit(.minutes(5)))
struct ResumeTests {
  private func resume(_ robot: FakeRobot?) async throws -> RobotDeed {
    let robots = robot.map { ["r1": $0] } ?? [:]
    let monitor = FakeMonitor(onResume: { robot?.hearThatItIsHealthy() ?? false })
    return try await FakeFleet().run(robots: robots, services: [monitor]) { clients in
      await Resuming(
        clients: clients, robot: "r1", by: "ana", reason: "", continuing: false, again: ""
      ).run()
    }
  }

  @Test func `a robot that was neither stopped nor unhealthy`() async throws {
    let deed = try await self.resume(FakeRobot())
    #expect(deed.done)
    #expect(deed.detail == "may work: it was neither stopped nor unhealthy")
  }

  @Test func `one that was stopped`() async throws {
    #expect(try await self.resume(FakeRobot(state: .stopped)).detail == "may work: its stop is lifted")
  }

  @Test func `one whose disk keeps no word of it`() async throws {
    let robot = FakeRobot(state: .stopped, unkept: "the disk is full")
    let doubt = "; ITS DISK REFUSES SOMETHING, and it tries again: the disk is full"
    #expect(try await self.resume(robot).detail == "may work: its stop is lifted\(doubt)")
    let stopped = try await FakeFleet().run(robots: ["r1": robot], services: [FakeMonitor()]) {
      try await Robots.Stop.stop(.named(["r1"]), $0, StopRequest())
    }
    #expect(stopped.answers.map(\.detail) == ["is stopped\(doubt)"])
  }

  @Test func `one that was unhealthy`() async throws {
    #expect(
      try await self.resume(FakeRobot(state: .unhealthy)).detail == "may work: it counts as healthy again")
  }

  @Test func `one that cannot be asked`() async throws {
    let deed = try await self.resume(nil)
    #expect(!deed.done)
    #expect(deed.detail.hasSuffix("a stop of its own is not lifted"))
  }
}

@Suite("RobotAddresses")
struct RobotAddressesTests {
  @Test func `a plain name is on this machine, another says where it is`() {
    let addresses = RobotAddresses("robot-1, arm-7=tcp://10.0.0.7:7451,,robot-1", sockets: "/tmp/s")
    #expect(addresses.names == ["robot-1", "arm-7"])
    #expect(
      addresses.endpoints == ["robot-1": "ipc:///tmp/s/robot-robot-1", "arm-7": "tcp://10.0.0.7:7451"])
  }

  @Test func `one whose place nobody says stays on the list`() {
    let addresses = RobotAddresses("robot-1,arm-7=tcp://10.0.0.7:7451,arm-8=", sockets: nil)
    #expect(addresses.names == ["robot-1", "arm-7", "arm-8"])
    #expect(addresses.endpoints == ["arm-7": "tcp://10.0.0.7:7451"])
  }
}
