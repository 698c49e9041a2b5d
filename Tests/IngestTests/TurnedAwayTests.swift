import Schemas
import Testing
import Trials

@testable import IngestCore

@Suite("TrialAssembler, turned away")
struct TurnedAwayTests {
  private let start = ContinuousClock.now

  private func events(_ robot: String, _ id: String, steps: Int = 5) -> [TrialEvent] {
    let header = TrialHeader(trialID: id, robot: robot, task: "reach")
    let runs = (0..<steps).map { TrialEvent.Event.steps(TrialSteps(steps: [TrialStep(index: UInt32($0))])) }
    let all = [.header(header)] + runs + [.end(TrialEnd(outcome: .success, steps: UInt32(steps)))]
    return all.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  /// There is room for one trial of each robot.
  private func assembler() -> TrialAssembler {
    var limits = TrialAssembler.Limits()
    limits.shares.robotTrials = 1
    limits.trialBytes = 1_000
    return TrialAssembler(limits: limits)
  }

  @Test func `a stream for which there is no room is told once, and opens none with a hole`() {
    var assembler = self.assembler()
    #expect(assembler.add(self.events("a", "first")[0], bytes: 10, now: self.start) == .wait)
    let events = self.events("a", "t-1")
    guard case .noRoom(let told) = assembler.add(events[0], bytes: 10, now: self.start) else {
      Issue.record("there was room")
      return
    }
    #expect(told.state == .incomplete)
    #expect(assembler.add(events[1], bytes: 10, now: self.start) == .wait)
    // Now there is room.
    assembler.forget(robot: "a", trialID: "first")
    for event in events.dropFirst(2) { #expect(assembler.add(event, bytes: 10, now: self.start) == .wait) }
    #expect(assembler.openStreams == 0)
    #expect(assembler.shares.all == RobotShares.Holding())
    #expect(assembler.expire(now: self.start + .seconds(60)).isEmpty)
    // What is streamed anew from its beginning is taken.
    let steps = events.map { assembler.add($0, bytes: 10, now: self.start) }
    #expect(steps.last == .complete(TrialRecord(events: events)))
  }

  @Test(arguments: ["t-1", "a/b", String(repeating: "x", count: 100)])
  func `a stream that is refused is told once`(id: String) {
    var assembler = self.assembler()
    var told: [TrialState] = []
    for event in self.events("a", id) {
      let step = assembler.add(event, bytes: 600, now: self.start)
      if case .tell(let answer) = step { told.append(answer.state) } else { #expect(step == .wait) }
    }
    #expect(told == [.refused])
    #expect(assembler.openStreams == 0)
  }

  /// The robot uploads at once, while the rest of the stream is on its way.
  @Test func `the upload of a trial whose stream was turned away is taken, whatever still comes of that`() {
    var assembler = self.assembler()
    _ = assembler.add(self.events("a", "first")[0], bytes: 10, now: self.start)
    let events = self.events("a", "t-1")
    guard case .noRoom = assembler.add(events[0], bytes: 10, now: self.start) else {
      Issue.record("there was room")
      return
    }
    assembler.forget(robot: "a", trialID: "first")
    var last: TrialAssembler.Step?
    for event in events {
      last = assembler.add(event, bytes: 10, from: .upload(1), now: self.start)
      if event.number > 0 { #expect(assembler.add(event, bytes: 10, now: self.start) == .wait) }
    }
    #expect(last == .complete(TrialRecord(events: events)))
    assembler.settled(robot: "a", trialID: "t-1", from: .upload(1))
    #expect(assembler.add(events[5], bytes: 10, now: self.start) == .wait)
    #expect(assembler.openStreams == 0)
    #expect(assembler.shares.all == RobotShares.Holding())
  }

  @Test func `how many are remembered is bounded, and no robot takes another's place`() {
    var turnedAway = TurnedAway()
    turnedAway.insert(robot: "honest", trialID: "t-1")
    for number in 0..<3 * TurnedAway.maximum {
      turnedAway.insert(robot: "rogue", trialID: "t-\(number)")
      #expect(turnedAway.count <= TurnedAway.maximum)
    }
    #expect(turnedAway.contains(robot: "honest", trialID: "t-1"))
    #expect(!turnedAway.contains(robot: "rogue", trialID: "t-0"))
    #expect(turnedAway.contains(robot: "rogue", trialID: "t-\(3 * TurnedAway.maximum - 1)"))
    for number in 0..<3 * TurnedAway.maximum { turnedAway.remove(robot: "rogue", trialID: "t-\(number)") }
    #expect(turnedAway.count == 1)
  }
}
