import Schemas
import Testing
import Trials

@testable import IngestCore

@Suite("TrialAssembler")
struct TrialAssemblerTests {
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
        if case .complete(let trial) = assembler.add(event, bytes: 10, nowNanos: 0) { complete.append(trial) }
      }
      #expect(complete == [TrialRecord(events: events)])
      #expect(assembler.openTrials == 0)
    }
  }

  @Test func `what is missing at the end is named`() {
    let events = self.events(steps: 5)
    var assembler = TrialAssembler()
    for index in [0, 1, 4] { #expect(assembler.add(events[index], bytes: 10, nowNanos: 0) == .wait) }
    guard case .tell(let acknowledgement) = assembler.add(events[6], bytes: 10, nowNanos: 0) else {
      Issue.record("the gap was not seen")
      return
    }
    #expect(acknowledgement.state == .incomplete)
    #expect(acknowledgement.missing == [EventRange(first: 2, last: 3), EventRange(first: 5, last: 5)])
    for index in [2, 3] { _ = assembler.add(events[index], bytes: 10, nowNanos: 0) }
    #expect(assembler.add(events[5], bytes: 10, nowNanos: 0) == .complete(TrialRecord(events: events)))
  }

  @Test func `a stream that falls silent is asked for and forgotten`() {
    var limits = TrialAssembler.Limits()
    limits.quietNanos = 100
    var assembler = TrialAssembler(limits: limits)
    _ = assembler.add(self.events()[0], bytes: 10, nowNanos: 0)
    #expect(assembler.expire(nowNanos: 99).isEmpty)
    let asked = assembler.expire(nowNanos: 100)
    #expect(asked.map(\.state) == [.incomplete])
    #expect(asked.first?.missing == [EventRange(first: 1, last: .max)])
    #expect(assembler.openTrials == 0)
  }

  @Test func `memory is bounded, and who is turned away is told`() {
    var limits = TrialAssembler.Limits()
    limits.openTrials = 2
    limits.trialBytes = 100
    limits.totalBytes = 150
    var assembler = TrialAssembler(limits: limits)
    #expect(assembler.add(self.events("a")[0], bytes: 60, nowNanos: 0) == .wait)
    guard case .tell(let tooLong) = assembler.add(self.events("a")[1], bytes: 60, nowNanos: 0) else {
      Issue.record("a trial above its bytes was taken")
      return
    }
    #expect(tooLong.state == .refused)
    #expect(assembler.add(self.events("b")[0], bytes: 90, nowNanos: 0) == .wait)
    guard case .tell(let noMemory) = assembler.add(self.events("c")[0], bytes: 90, nowNanos: 0) else {
      Issue.record("more than all bytes were taken")
      return
    }
    #expect(noMemory.state == .incomplete)
    #expect(assembler.add(self.events("d")[0], bytes: 10, nowNanos: 0) == .wait)
    guard case .tell(let tooMany) = assembler.add(self.events("e")[0], bytes: 10, nowNanos: 0) else {
      Issue.record("more than the open trials were taken")
      return
    }
    #expect(tooMany.state == .incomplete)
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
      guard case .tell(let answer) = assembler.add(event, bytes: 10, nowNanos: 0) else {
        Issue.record("\(event) was taken")
        continue
      }
      #expect(answer.state == .refused)
      #expect(answer.reasons.count == 1)
      #expect(assembler.openTrials == 0)
    }
  }

  @Test func `the same event twice changes nothing`() {
    let events = self.events()
    var assembler = TrialAssembler()
    for event in events.dropLast() {
      #expect(assembler.add(event, bytes: 10, nowNanos: 0) == .wait)
      #expect(assembler.add(event, bytes: 10, nowNanos: 0) == .wait)
    }
    #expect(assembler.add(events[4], bytes: 10, nowNanos: 0) == .complete(TrialRecord(events: events)))
  }
}
