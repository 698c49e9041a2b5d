import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import FleetCore

@Suite("WorkWatch")
struct WorkWatchTests {
  private let start = ContinuousClock.now

  private func line(_ robot: String, _ order: String, trials: UInt32, held: Bool = false) -> Work.Line {
    Work.Line(robot, OpenOrder(orderID: order, task: "reach", trials: trials, held: held))
  }

  @Test func `a silent robot may have some of the work`() throws {
    var watch = WorkWatch("w")
    #expect(watch.note([], silent: ["a"], at: self.start) == .init(silent: ["a"]))
    #expect(try !watch.isOver(again: "", at: self.start))
    #expect(watch.note([], silent: ["a"], at: self.start + .seconds(1)) == .init())
    // It is back, and has some.
    #expect(watch.note([self.line("a", "w-1", trials: 3)], silent: []) == .init(answering: ["a"]))
    #expect(try !watch.isOver(again: ""))
    #expect(watch.left == 3)
    #expect(watch.note([], silent: []) == .init())
    #expect(try watch.isOver(again: ""))
    #expect(watch.total == 3 && watch.orders == ["w-1"])
  }

  @Test func `what a robot said last holds while it is silent`() throws {
    var watch = WorkWatch("w")
    _ = watch.note([self.line("a", "w-1", trials: 3), self.line("b", "w-2", trials: 2)], silent: [])
    _ = watch.note([self.line("b", "w-2", trials: 1)], silent: ["a"])
    #expect(watch.left == 4 && watch.total == 5)
  }

  @Test func `silence is waited for as long as a service is, and then told`() throws {
    var watch = WorkWatch("w")
    _ = watch.note([], silent: ["a"], at: self.start)
    let late = self.start + Patience.longest
    _ = watch.note([], silent: ["a"], at: late)
    #expect {
      try watch.isOver(again: " --data e", at: late)
    } throws: {
      ($0 as? FleetError)?.code == .timedOut && "\($0)".hasPrefix("a did not answer")
        && "\($0)".hasSuffix("\nSee: fleet work list --data e")
    }
  }

  @Test func `work that nobody has is refused once everybody answered`() {
    var watch = WorkWatch("w")
    #expect(watch.note([self.line("a", "other-1", trials: 3)], silent: []) == .init())
    #expect {
      try watch.isOver(again: " --data e")
    } throws: {
      ($0 as? FleetError)?.code == .refused && "\($0)".hasSuffix("\nSee: fleet work list --data e")
    }
  }

  @Test func `trials that are held back are told once`() {
    var watch = WorkWatch("w")
    let held = [self.line("a", "w-1", trials: 3, held: true)]
    #expect(watch.note(held, silent: []).holding == ["a"])
    #expect(watch.note(held, silent: []).holding.isEmpty)
  }
}

@Suite("CommandHint")
struct CommandHintTests {
  @Test func `a command ends its line`() {
    let text = CommandHint.text(
      "It goes on.", [.init("End it", "fleet x end 7"), .init("Follow it", "fleet x watch 7")],
      again: " --data e")
    #expect(text == "It goes on.\nEnd it:    fleet x end 7 --data e\nFollow it: fleet x watch 7 --data e")
  }

  @Test(arguments: [
    ("data", "data"), ("/a b", "'/a b'"), ("it's", #"'it'\''s'"#), ("", "''"), ("$x", "'$x'"),
  ])
  func `a folder is written as a shell reads it`(word: String, text: String) {
    #expect(CommandHint.quoted(word) == text)
  }

  @Test func `options name the fleet for the next command`() {
    var options = FleetOptions()
    options.data = "my fleet"
    options.keys = "keys/ops"
    #expect(options.again == " --data 'my fleet' --keys keys/ops")
  }
}

@Suite("Work on robots", .timeLimit(.minutes(5)))
struct WorkOnRobotsTests {
  @Test func `work is cancelled by its id, whatever a robot lists`() async throws {
    // The first 1,000 are somebody else's.
    let orders = (0..<1_001).map { OpenOrder(orderID: $0 < 1_000 ? "other-\($0)" : "w-1", trials: 1) }
    let robot = FakeRobot(orders: orders)
    let answers = try await FakeFleet().run(robots: ["r1": robot], services: []) {
      try await Work.Cancel.cancel("w", on: [], $0)
    }
    #expect(robot.cancelled == ["w"])
    let counts = try #require(answers.answers.first?.answer)
    // What the robot said waited before and after.
    #expect(counts.dropped == 500 && counts.running == 0)
  }

  @Test func `giving up names what robots still have, and the command that ends it`() async throws {
    await #expect {
      try await FakeFleet().run(
        robots: ["r1": FakeRobot()], services: [FakeMonitor(robots: ["r1"]), FakeIngest()]
      ) { clients in
        let dispatcher = WorkDispatcher(
          clients: clients, maximumSteps: 10, progress: ProgressReport(isTerminal: false), again: " --data e")
        let units = (0..<3).map { WorkUnit(task: "reach", mode: .demonstration, seed: $0) }
        _ = try await dispatcher.run("work", units: units, robots: ["r1"], work: "work-7", limit: .zero)
      }
    } throws: {
      ($0 as? FleetError)?.code == .timedOut && "\($0)".contains("2 on r1")
        && "\($0)".contains("\nEnd them:    fleet work cancel work-7 --data e\n")
    }
  }
}

@Suite("Pages of alerts", .timeLimit(.minutes(5)))
struct AlertPagesTests {
  @Test func `pages are followed, and what is left out is told`() async throws {
    let monitor = FakeMonitor(alerts: (0..<2_500).map { Alert(alertID: "\($0)") })
    try await FakeFleet().run(robots: [:], services: [monitor]) { clients in
      let all = try await clients.alerts(includeResolved: false, atMost: 5_000, within: .seconds(20))
      #expect(all.alerts.map(\.alertID) == (0..<2_500).map { "\($0)" })
      #expect(!all.areMore)
      let some = try await clients.alerts(includeResolved: false, atMost: 1_500, within: .seconds(20))
      #expect(some.alerts.count == 1_500 && some.areMore)
    }
  }
}
