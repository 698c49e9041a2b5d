import Schemas
import Testing

@testable import MonitorCore

@Suite("Robot health, as a value")
struct HealthTests {
  static let second: Int64 = 1_000_000_000

  private func open(_ state: MonitorState, _ name: String) -> [Alert] {
    state.alerts.list(includeResolved: false).filter { $0.name == name }
  }

  private func play(_ state: inout MonitorState, _ robot: String, _ outcomes: [Outcome], from: Int = 0) {
    for (index, outcome) in outcomes.enumerated() {
      state.hear(
        robot: robot, trialID: "t\(from + index)", outcome: outcome, salt: "s", now: Self.second)
    }
  }

  @Test func `five failures in a row are fine, the sixth is not`() throws {
    var state = MonitorState()
    self.play(&state, "a", Array(repeating: .failure, count: 5))
    #expect(state.robots["a"]?.isHealthy == true)
    #expect(self.open(state, "RobotConsecutiveFailures").isEmpty)
    self.play(&state, "a", [.failure], from: 5)
    #expect(state.robots["a"]?.isHealthy == false)
    let alert = try #require(self.open(state, "RobotConsecutiveFailures").first)
    #expect(alert.robot == "a")
    #expect(alert.severity == .critical)
    #expect(alert.labels["consecutive_failures"] == "6")
    #expect(state.robots["a"]?.directive.healthy == false)
    // One more failure is the same trouble, not another.
    self.play(&state, "a", [.failure], from: 6)
    #expect(state.alerts.list(includeResolved: true).count == 1)
  }

  @Test func `success resets, aborted trials neither count nor reset`() {
    var state = MonitorState()
    self.play(&state, "a", [.failure, .failure, .failure, .success, .failure, .failure, .failure])
    #expect(state.robots["a"]?.consecutiveFailures == 3)
    self.play(&state, "a", [.aborted, .aborted, .aborted, .aborted], from: 7)
    #expect(state.robots["a"]?.consecutiveFailures == 3)
    self.play(&state, "a", [.failure, .failure, .failure], from: 11)
    #expect(state.robots["a"]?.isHealthy == false)
  }

  @Test func `a trial that comes twice is counted once`() {
    var state = MonitorState()
    for _ in 0..<10 { self.play(&state, "a", [.failure, .failure]) }
    #expect(state.robots["a"]?.consecutiveFailures == 2)
  }

  @Test func `one robot's failures do not touch the others`() {
    var state = MonitorState()
    self.play(&state, "a", Array(repeating: .failure, count: 9))
    self.play(&state, "b", Array(repeating: .failure, count: 5))
    #expect(state.robots["a"]?.isHealthy == false)
    #expect(state.robots["b"]?.isHealthy == true)
  }

  @Test func `an operator lets a robot back, by a newer directive`() throws {
    var state = MonitorState()
    self.play(&state, "a", Array(repeating: .failure, count: 6))
    let generation = try #require(state.robots["a"]).healthGeneration
    #expect(throws: MonitorError.self) { _ = try state.resume("a", by: "", now: 2) }
    #expect(try state.resume("a", by: "ana", now: 2))
    #expect(state.robots["a"]?.isHealthy == true)
    #expect(state.robots["a"]?.consecutiveFailures == 0)
    #expect(try #require(state.robots["a"]).healthGeneration > generation)
    #expect(self.open(state, "RobotConsecutiveFailures").isEmpty)
    // Said twice it is no error, and nothing new; nobody is told that a healthy robot was let back.
    let resumed = state
    #expect(try !state.resume("a", by: "ana", now: 3))
    #expect(state == resumed)
    #expect(throws: MonitorError.self) { _ = try state.resume("x", by: "ana", now: 3) }
    self.play(&state, "a", Array(repeating: .failure, count: 6), from: 10)
    #expect(state.alerts.list(includeResolved: true).count == 2)
  }

  @Test func `a robot that an earlier monitor took out stays out`() throws {
    var state = MonitorState()
    state.hear(Heartbeat(robot: "a", state: .unhealthy), salt: "s", now: Self.second)
    #expect(state.robots["a"]?.isHealthy == false)
    #expect(self.open(state, "RobotConsecutiveFailures").count == 1)
    // After a resume the robot may still say so for a moment; that is no news.
    #expect(try state.resume("a", by: "ana", now: 2 * Self.second))
    state.hear(Heartbeat(robot: "a", state: .unhealthy), salt: "s", now: 2 * Self.second)
    #expect(state.robots["a"]?.isHealthy == true)
    #expect(state.rows(counts: [:]).first?.state == .idle)
  }

  /// A copy of the monitor's state was brought back from before it took the robot out: the robot follows a newer directive
  /// than any that this state will repeat.
  @Test func `a robot that stays unhealthy against the monitor's word is out, and can be let back`() throws {
    var state = MonitorState()
    self.play(&state, "a", Array(repeating: .failure, count: 6))
    _ = try state.resume("a", by: "ana", now: 2 * Self.second)
    let old = try #require(state.robots["a"]).healthGeneration
    var instant = ContinuousClock.now
    func say(_ said: RobotState, seconds: Int) {
      for _ in 0..<seconds {
        state.hear(Heartbeat(robot: "a", state: said), salt: "s", now: 3 * Self.second)
        instant += .seconds(1)
        state.tick(salt: "s", now: 3 * Self.second, instant: instant)
      }
    }
    say(.idle, seconds: 2)
    // As long as it takes to hear of a resume, it is not believed.
    say(.unhealthy, seconds: 10)
    #expect(state.rows(counts: [:]).first?.state == .idle)
    // An operator who does not wait is heard: by a newer directive.
    var early = state
    _ = try early.resume("a", by: "ana", now: 4 * Self.second)
    #expect(try #require(early.robots["a"]).healthGeneration > old)
    say(.idle, seconds: 1)
    say(.unhealthy, seconds: 40)
    #expect(state.rows(counts: [:]).first?.state == .unhealthy)
    #expect(self.open(state, "RobotConsecutiveFailures").count == 1)
    _ = try state.resume("a", by: "ana", now: 5 * Self.second)
    #expect(try #require(state.robots["a"]).healthGeneration > old)
    #expect(self.open(state, "RobotConsecutiveFailures").isEmpty)
  }

  @Test func `a robot whose link is gone is not disobedient`() throws {
    var state = MonitorState()
    self.play(&state, "a", Array(repeating: .failure, count: 6))
    _ = try state.resume("a", by: "ana", now: 2 * Self.second)
    var instant = ContinuousClock.now
    func pass(seconds: Int, unhealthy: Bool) {
      for _ in 0..<seconds {
        if unhealthy { state.hear(Heartbeat(robot: "a", state: .unhealthy), salt: "s", now: 3 * Self.second) }
        instant += .seconds(1)
        state.tick(salt: "s", now: 3 * Self.second, instant: instant)
      }
    }
    pass(seconds: 2, unhealthy: true)
    pass(seconds: 60, unhealthy: false)
    #expect(state.rows(counts: [:]).first?.state == .offline)
    pass(seconds: 10, unhealthy: true)
    #expect(state.robots["a"]?.isHealthy == true)
    pass(seconds: 31, unhealthy: true)
    #expect(state.robots["a"]?.isHealthy == false)
  }

  @Test func `safety stop, failed install and growing spool are told and resolved`() {
    var state = MonitorState()
    state.hear(
      SafetyEvent(robot: "a", kind: "stop", detail: "button"), salt: "s", now: 1)
    state.hear(SafetyEvent(robot: "a", kind: "action-clipped"), salt: "s", now: 1)
    #expect(self.open(state, "SafetyStop").count == 1)
    state.hear(
      Heartbeat(robot: "a", state: .stopped, spooledTrials: 50, installError: "untrusted key"), salt: "s",
      now: 2)
    #expect(state.alerts.list(includeResolved: false).count == 3)
    state.hear(Heartbeat(robot: "a", state: .idle, spooledTrials: 30), salt: "s", now: 3)
    #expect(self.open(state, "SpoolGrowing").count == 1)
    #expect(self.open(state, "SafetyStop").isEmpty)
    #expect(self.open(state, "ModelInstallFailed").isEmpty)
    state.hear(Heartbeat(robot: "a", state: .idle, spooledTrials: 25), salt: "s", now: 4)
    #expect(state.alerts.list(includeResolved: false).isEmpty)
    #expect(state.alerts.list(includeResolved: true).count == 3)
  }

  @Test func `names that are no names and too many robots are left out`() {
    var state = MonitorState()
    state.limits.robots = 2
    for name in ["", "a/b", "x y", "r1", "r2", "r3"] {
      state.hear(Heartbeat(robot: name, state: .idle), salt: "s", now: 1)
    }
    #expect(state.robots.keys.sorted() == ["r1", "r2"])
  }
}

@Suite("AlertBook")
struct AlertBookTests {
  @Test func `an alert fires once, is acknowledged, resolved, and may fire again`() throws {
    var book = AlertBook()
    let draft = Alert(name: "RobotOffline", severity: .warning, robot: "a")
    book.raise(draft, salt: "s", now: 1)
    book.raise(draft, salt: "s", now: 2)
    let first = try #require(book.list(includeResolved: true).first)
    #expect(book.alerts.count == 1)
    #expect(first.startedUnixNanos == 1)
    #expect(try book.acknowledge(first.alertID, by: "ana").state == .acknowledged)
    book.raise(draft, salt: "s", now: 3)
    #expect(book.alerts.count == 1)
    book.resolve(AlertSubject(name: "RobotOffline", robot: "a"), now: 4)
    #expect(book.alerts[first.alertID]?.resolvedUnixNanos == 4)
    #expect(throws: MonitorError.self) { try book.acknowledge(first.alertID, by: "ana") }
    #expect(throws: MonitorError.self) { try book.acknowledge("x", by: "ana") }
    book.raise(draft, salt: "s", now: 5)
    #expect(book.list(includeResolved: false).count == 1)
    #expect(book.list(includeResolved: true).count == 2)
    // What an earlier process kept goes on.
    var again = AlertBook(alerts: book.list(includeResolved: true))
    #expect(again == book)
    again.raise(draft, salt: "s", now: 6)
    #expect(again == book)
  }

  @Test func `the book is bounded`() {
    var book = AlertBook()
    for index in 0..<(AlertBook.capacity + 50) {
      book.raise(Alert(name: "RobotOffline", robot: "a"), salt: "s", now: Int64(index))
      if index > 0 { book.resolve(AlertSubject(name: "RobotOffline", robot: "a"), now: Int64(index)) }
    }
    #expect(book.alerts.count <= AlertBook.capacity + 1)
  }
}
