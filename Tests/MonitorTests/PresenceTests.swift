import Schemas
import Testing

@testable import MonitorCore

@Suite("Who is offline, as a value")
struct PresenceTests {
  private var state = MonitorState()
  private var instant = ContinuousClock.now
  /// Unix nanoseconds.
  private var wall: Int64 = 1_000_000_000_000

  /// Lets seconds pass with a tick after each.
  private mutating func watch(seconds: Int) {
    for _ in 0..<seconds {
      self.instant += .seconds(1)
      self.wall += 1_000_000_000
      self.state.tick(salt: "s", now: self.wall, instant: self.instant)
    }
  }

  private mutating func beat(_ robots: String...) {
    for robot in robots {
      self.state.hear(Heartbeat(robot: robot, state: .idle), salt: "s", now: self.wall)
    }
  }

  private var offline: [String] {
    self.state.alerts.list(includeResolved: false).filter { $0.name == "RobotOffline" }.map(\.robot).sorted()
  }

  @Test mutating func `a robot without heartbeats is offline until it returns`() {
    self.watch(seconds: 1)
    self.beat("a")
    self.watch(seconds: 5)
    #expect(self.state.rows(counts: [:]).first?.state == .idle)
    self.watch(seconds: 1)
    #expect(self.state.rows(counts: [:]).first?.state == .offline)
    #expect(self.offline == ["a"])
    self.beat("a")
    #expect(self.state.rows(counts: [:]).first?.state == .idle)
    #expect(self.offline.isEmpty)
  }

  @Test mutating func `a robot known from an earlier run is missed too`() {
    self.state.robots["a"] = RobotEntry(name: "a")
    self.state.robots["a"]?.isExpected = true
    // Nobody knows yet what it is at.
    #expect(self.state.rows(counts: [:]).first?.state == .unspecified)
    self.watch(seconds: 6)
    #expect(self.state.rows(counts: [:]).first?.state == .unspecified)
    #expect(self.offline.isEmpty)
    self.watch(seconds: 1)
    #expect(self.state.rows(counts: [:]).first?.state == .offline)
    #expect(self.offline == ["a"])
  }

  @Test(arguments: [Int64(3_600), -3_600]) mutating func `a step of the clock puts nobody offline`(
    seconds: Int64
  ) {
    self.watch(seconds: 1)
    self.beat("a", "b")
    self.wall += seconds * 1_000_000_000
    self.watch(seconds: 4)
    #expect(self.offline.isEmpty)
    self.watch(seconds: 2)
    #expect(self.offline == ["a", "b"])
  }

  @Test mutating func `time in which the monitor itself stood still is nobody's silence`() {
    self.watch(seconds: 1)
    self.beat("a", "b")
    // Stopped for an hour, or the machine slept.
    self.instant += .seconds(3_600)
    self.wall += 3_600_000_000_000
    self.state.tick(salt: "s", now: self.wall, instant: self.instant)
    #expect(self.offline.isEmpty)
    self.beat("a")
    self.watch(seconds: 4)
    #expect(self.offline == ["b"])
  }

  @Test mutating func `a busy machine that ticks late watches on`() {
    self.watch(seconds: 1)
    self.beat("a")
    for _ in 0..<4 {
      self.instant += .milliseconds(1_600)
      self.state.tick(salt: "s", now: self.wall, instant: self.instant)
    }
    #expect(self.offline == ["a"])
  }

  @Test mutating func `the row says why a robot is stopped`() {
    self.state.hear(
      Heartbeat(robot: "a", state: .stopped, stopReason: "hand in the cage"), salt: "s", now: self.wall)
    #expect(self.state.rows(counts: [:]).first?.reason == "hand in the cage")
    #expect(
      self.state.alerts.list(includeResolved: false).first?.summary.contains("hand in the cage") == true)
    self.state.hear(Heartbeat(robot: "a", state: .idle), salt: "s", now: self.wall)
    #expect(self.state.rows(counts: [:]).first?.reason == "")
  }

  @Test mutating func `what a robot says is kept to a row's length`() {
    let long = String(repeating: "x", count: 100_000)
    self.state.hear(
      Heartbeat(robot: "a", facility: long, modelVersion: long, desiredVersion: long, installError: long),
      salt: "s", now: self.wall)
    let row = self.state.rows(counts: [:])[0]
    #expect(row.serializedBytes().count < 2_000)
    #expect(self.state.alerts.list(includeResolved: false).allSatisfy { $0.serializedBytes().count < 2_000 })
  }
}
