import Schemas
import Testing
import Trials

@testable import IngestCore

@Suite("TrialAssembler")
struct TrialAssemblerTests {
  private let start = ContinuousClock.now

  private func events(_ id: String = "t-1", robot: String = "robot-1", steps: Int = 3) -> [TrialEvent] {
    let header = TrialHeader(trialID: id, robot: robot, task: "reach")
    let runs = (0..<steps).map { TrialEvent.Event.steps(TrialSteps(steps: [TrialStep(index: UInt32($0))])) }
    let all = [.header(header)] + runs + [.end(TrialEnd(outcome: .success, steps: UInt32(steps)))]
    return all.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  @Test func `events in any order make the trial, once`() {
    let events = self.events(steps: 4)
    for order in [
      events, events.reversed(), [events[5], events[0], events[2], events[4], events[1], events[3]],
    ] {
      var assembler = TrialAssembler()
      var complete: [TrialRecord] = []
      for event in order {
        if case .complete(let trial) = assembler.add(event, bytes: 10, now: self.start) {
          complete.append(trial)
        }
      }
      #expect(complete == [TrialRecord(events: events)])
      #expect(assembler.openStreams == 0)
    }
  }

  @Test func `what is missing at the end is named`() {
    let events = self.events(steps: 5)
    var assembler = TrialAssembler()
    for index in [0, 1, 4] { #expect(assembler.add(events[index], bytes: 10, now: self.start) == .wait) }
    guard case .tell(let acknowledgement) = assembler.add(events[6], bytes: 10, now: self.start) else {
      Issue.record("the gap was not seen")
      return
    }
    #expect(acknowledgement.state == .incomplete)
    #expect(acknowledgement.missing == [EventRange(first: 2, last: 3), EventRange(first: 5, last: 5)])
    for index in [2, 3] { _ = assembler.add(events[index], bytes: 10, now: self.start) }
    #expect(assembler.add(events[5], bytes: 10, now: self.start) == .complete(TrialRecord(events: events)))
  }

  @Test func `a stream that falls silent is asked for and forgotten`() {
    var limits = TrialAssembler.Limits()
    limits.quiet = .nanoseconds(100)
    var assembler = TrialAssembler(limits: limits)
    _ = assembler.add(self.events()[0], bytes: 10, now: self.start)
    #expect(assembler.expire(now: self.start + .nanoseconds(99)).isEmpty)
    let asked = assembler.expire(now: self.start + .nanoseconds(100))
    #expect(asked.map(\.state) == [.incomplete])
    #expect(asked.first?.missing == [EventRange(first: 1, last: .max)])
    #expect(assembler.openStreams == 0)
  }

  @Test func `a trial above its bytes is refused, and one that can never have room`() {
    var limits = TrialAssembler.Limits()
    limits.trialBytes = 100
    limits.shares.robotBytes = 5_000
    var assembler = TrialAssembler(limits: limits)
    #expect(assembler.add(self.events("a")[0], bytes: 60, now: self.start) == .wait)
    guard case .tell(let tooLong) = assembler.add(self.events("a")[1], bytes: 60, now: self.start) else {
      Issue.record("a trial above its bytes was taken")
      return
    }
    #expect(tooLong.state == .refused)
    // A few bytes on their way, and a hundred times as many here.
    let empty = TrialEvent(
      robot: "robot-1", trialID: "b", number: 1,
      event: .steps(TrialSteps(steps: Array(repeating: TrialStep(), count: 50))))
    guard case .tell(let dense) = assembler.add(empty, bytes: 100, now: self.start) else {
      Issue.record("a trial above its robot's memory was taken")
      return
    }
    #expect(dense.state == .refused)
    #expect(assembler.shares.all == RobotShares.Holding())
  }

  @Test func `hostile events are refused with a reason`() {
    let good = self.events()[0]
    let changes: [(inout TrialEvent) -> Void] = [
      { $0.robot = "" }, { $0.robot = "../../etc" }, { $0.trialID = String(repeating: "x", count: 65) },
      { $0.trialID = ".." }, { $0.trialID = "a/b" }, { $0.event = nil }, { $0.number = 4 },
      { $0.number = .max }, { $0.robot = "robot-2" },
    ]
    for change in changes {
      var event = good
      change(&event)
      var assembler = TrialAssembler()
      guard case .tell(let answer) = assembler.add(event, bytes: 10, now: self.start) else {
        Issue.record("\(event) was taken")
        continue
      }
      #expect(answer.state == .refused)
      #expect(answer.reasons.count == 1)
      #expect(assembler.openStreams == 0)
    }
  }

  @Test func `what is missing is said once and in few words, however many holes there are`() {
    let events = self.events(steps: 1_001)
    var assembler = TrialAssembler()
    var told: [TrialAcknowledgement] = []
    for event in [events[1_002]] + stride(from: 1, to: 1_002, by: 2).map({ events[$0] }) {
      if case .tell(let acknowledgement) = assembler.add(event, bytes: 10, now: self.start) {
        told.append(acknowledgement)
      }
    }
    #expect(told.map(\.missing) == [[EventRange(first: 0, last: 1_001)]])
    // Told again when it is given up, with an open end instead of all 501 holes.
    let last = assembler.expire(now: self.start + .seconds(5)).first?.missing ?? []
    #expect(last.count == TrialAssembler.mostRanges + 1)
    #expect(last.first == EventRange(first: 0, last: 0))
    #expect(last.last == EventRange(first: 128, last: .max))
    #expect(assembler.openStreams == 0)
  }

  @Test func `the same event twice changes nothing`() {
    let events = self.events()
    var assembler = TrialAssembler()
    for event in events.dropLast() {
      #expect(assembler.add(event, bytes: 10, now: self.start) == .wait)
      #expect(assembler.add(event, bytes: 10, now: self.start) == .wait)
    }
    #expect(assembler.add(events[4], bytes: 10, now: self.start) == .complete(TrialRecord(events: events)))
  }

  /// Events of a trial by number and kind: "h" header, "s" steps, "e" end.
  private func event(_ kind: Character, _ number: UInt32) -> TrialEvent {
    let event: TrialEvent.Event =
      switch kind {
      case "h": .header(TrialHeader(trialID: "t-1", robot: "robot-1", task: "reach"))
      case "s": .steps(TrialSteps(steps: [TrialStep(index: number)]))
      default: .end(TrialEnd(outcome: .success, steps: 1))
      }
    return TrialEvent(robot: "robot-1", trialID: "t-1", number: number, event: event)
  }

  @Test(
    arguments: [
      [("h", 0), ("e", 2), ("s", 3)], [("h", 0), ("s", 3), ("e", 2)], [("h", 0), ("e", 2), ("e", 3)],
      [("s", 0), ("s", 1), ("e", 2)], [("e", 0)],
    ] as [[(Character, UInt32)]])
  func `no trial with a hole, a second end or no header is accepted`(_ numbers: [(Character, UInt32)]) {
    var assembler = TrialAssembler()
    var refused = false
    for (kind, number) in numbers {
      switch assembler.add(self.event(kind, number), bytes: 10, now: self.start) {
      case .complete(let trial): Issue.record("\(trial.events.map(\.number)) was accepted")
      case .tell(let answer): refused = refused || answer.state == .refused
      case .noRoom: Issue.record("there was no room")
      case .wait: break
      }
    }
    #expect(refused)
  }

  @Test func `a trial that came another way is forgotten`() {
    var assembler = TrialAssembler()
    _ = assembler.add(self.events()[0], bytes: 10, now: self.start)
    assembler.forget(robot: "robot-1", trialID: "t-1")
    #expect(assembler.openStreams == 0)
    #expect(assembler.expire(now: self.start + .seconds(60)).isEmpty)
  }

  /// Lists of trials hold header and end of each.
  @Test func `a header or end that no list could hold is refused, and why is said`() {
    func reasons(header: TrialHeader? = nil, end: TrialEnd? = nil) -> [String]? {
      var assembler = TrialAssembler()
      let event = TrialEvent(
        robot: "robot-1", trialID: "t-1", number: header == nil ? 1 : 0,
        event: header.map { .header($0) } ?? end.map { .end($0) })
      switch assembler.add(event, bytes: event.serializedSize, now: self.start) {
      case .tell(let told) where told.state == .refused: return told.reasons
      default: return nil
      }
    }
    func text(_ count: Int) -> String { String(repeating: "x", count: count) }
    func header(_ change: (inout TrialHeader) -> Void) -> TrialHeader {
      var header = TrialHeader(trialID: "t-1", robot: "robot-1", task: "reach")
      change(&header)
      return header
    }
    for bytes in [20 << 20, 65_536] {
      #expect(reasons(header: header { $0.labels = ["note": text(bytes)] })?.first?.contains("65536") == true)
    }
    #expect(reasons(end: TrialEnd(failureCode: text(20 << 20)))?.first?.contains("failure_code") == true)
    let unknown = (0..<30_000).flatMap { _ in [0x30, 0x01] as [UInt8] }
    if let crowded = try? TrialEnd(
      serializedBytes: TrialEnd(failureCode: text(2 << 20)).serializedBytes() + unknown
        + TrialEnd(failureCode: "x").serializedBytes())
    {
      #expect(reasons(end: crowded)?.first?.contains("too many fields") == true)
    } else {
      Issue.record("the end of many fields cannot be made")
    }
    let texts: [(String, (inout TrialHeader, String) -> Void)] = [
      ("facility", { $0.facility = $1 }), ("task", { $0.task = $1 }),
      ("model_version", { $0.modelVersion = $1 }), ("hardware_cohort", { $0.hardwareCohort = $1 }),
      ("release_id", { $0.releaseID = $1 }), ("order_id", { $0.orderID = $1 }),
    ]
    for (name, set) in texts {
      #expect(reasons(header: header { set(&$0, text(257)) })?.first?.contains(name) == true)
      #expect(reasons(header: header { set(&$0, text(256)) }) == nil)
    }
    // What a robot lets through: 64 labels of 512 bytes.
    let labels = Dictionary(uniqueKeysWithValues: (10..<74).map { ("\($0)", text(510)) })
    #expect(reasons(header: header { $0.labels = labels }) == nil)
    #expect(reasons(end: TrialEnd(failureCode: text(256))) == nil)
  }
}
