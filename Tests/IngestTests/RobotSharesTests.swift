import Schemas
import Testing
import Trials

@testable import IngestCore

@Suite("Robots' shares of ingest")
struct RobotSharesTests {
  private let start = ContinuousClock.now

  private func limits(robotTrials: Int, robotBytes: Int, trials: Int, bytes: Int) -> RobotShares.Limits {
    var limits = RobotShares.Limits()
    (limits.robotTrials, limits.robotBytes, limits.trials, limits.bytes) =
      (robotTrials, robotBytes, trials, bytes)
    return limits
  }

  /// Takes as much as it may, in trials of so many bytes.
  private func fill(_ shares: inout RobotShares, _ robot: String, bytes: Int) {
    while shares.shortage(of: robot, trials: 1, bytes: bytes) == nil {
      shares.take(robot, trials: 1, bytes: bytes)
    }
  }

  @Test func `one robot has its share and no more, and is told which setting says so`() {
    var trials = RobotShares(
      limits: self.limits(robotTrials: 4, robotBytes: 1_000, trials: 100, bytes: 9_000))
    self.fill(&trials, "a", bytes: 1)
    #expect(trials.holding(of: "a") == RobotShares.Holding(trials: 4, bytes: 4))
    #expect(trials.shortage(of: "a", trials: 1, bytes: 1)?.contains("ingest.robot-trials") == true)
    #expect(trials.shortage(of: "a", trials: 0, bytes: 1) == nil, "what has begun goes on")
    var bytes = RobotShares(
      limits: self.limits(robotTrials: 40, robotBytes: 1_000, trials: 100, bytes: 9_000))
    self.fill(&bytes, "a", bytes: 300)
    #expect(bytes.holding(of: "a") == RobotShares.Holding(trials: 3, bytes: 900))
    #expect(bytes.shortage(of: "a", trials: 1, bytes: 300)?.contains("ingest.robot-megabytes") == true)
    #expect(bytes.shortage(of: "b", trials: 1, bytes: 1_000) == nil)
  }

  @Test(arguments: 1...40) func `however many take all that they can get, one that has little gets in`(
    robots: Int
  ) {
    let limits = self.limits(robotTrials: 64, robotBytes: 256_000, trials: 256, bytes: 1_000_000)
    // At once, each in turn, and one after the other.
    var shares = [RobotShares(limits: limits), RobotShares(limits: limits)]
    for _ in 0..<100 {
      for robot in 0..<robots where shares[0].shortage(of: "\(robot)", trials: 1, bytes: 4_000) == nil {
        shares[0].take("\(robot)", trials: 1, bytes: 4_000)
      }
    }
    for robot in 0..<robots { self.fill(&shares[1], "\(robot)", bytes: 4_000) }
    for shares in shares {
      #expect(shares.all.trials <= 256)
      #expect(shares.all.bytes <= 1_000_000)
      #expect(shares.shortage(of: "late", trials: 1, bytes: limits.littleBytes) == nil)
    }
    // Who takes in turns leaves as much as each has.
    let free = 750_000 - shares[0].all.bytes
    if robots <= 10 {
      #expect(shares[0].shortage(of: "late", trials: 1, bytes: free / 2) == nil)
      #expect(free / 2 >= 750_000 / (2 * robots + 2) - 4_000)
    }
    var trials = RobotShares(limits: limits)
    for robot in 0..<robots { self.fill(&trials, "\(robot)", bytes: 1) }
    #expect(trials.shortage(of: "late", trials: 1, bytes: 1) == nil)
  }

  @Test func `alone, the largest trial has room`() {
    for limits in [
      self.limits(robotTrials: 1, robotBytes: 256, trials: 1, bytes: 1_024),
      self.limits(robotTrials: 1, robotBytes: 256, trials: 1, bytes: 512),
    ] {
      var shares = RobotShares(limits: limits)
      #expect(shares.shortage(of: "a", trials: 1, bytes: limits.largestTrial) == nil)
      shares.take("a", trials: 1, bytes: 1)
      #expect(shares.shortage(of: "a", trials: 0, bytes: limits.largestTrial - 1) == nil)
      #expect(shares.shortage(of: "a", trials: 0, bytes: limits.largestTrial) != nil)
    }
    var least = RobotShares.Limits()
    (least.robotBytes, least.bytes) = (192 << 20, 512 << 20)
    #expect(least.largestTrial == 192 << 20)
  }

  // MARK: In the assembler

  private func events(_ robot: String, _ id: String) -> [TrialEvent] {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: robot, task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0)])), .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  private func assembler(robotTrials: Int, trials: Int) -> TrialAssembler {
    var limits = TrialAssembler.Limits()
    limits.shares = self.limits(
      robotTrials: robotTrials, robotBytes: 1 << 20, trials: trials, bytes: 8 << 20)
    return TrialAssembler(limits: limits)
  }

  @Test func `endless streams and uploads of one robot keep no other's trial out`() {
    var assembler = self.assembler(robotTrials: 4, trials: 16)
    var turnedAway = 0
    for number in 0..<1_000 {
      let source: TrialAssembler.Source = number % 2 == 0 ? .stream : .upload(UInt64(number))
      let event = self.events("rogue", "t-\(number)")[0]
      switch assembler.add(event, bytes: 40, from: source, now: self.start) {
      case .noRoom(let told):
        turnedAway += 1
        // It says what to do, and nothing that would make a robot put its trial aside.
        #expect(told.state == .incomplete)
        #expect(told.reasons.first?.contains("send this one again later") == true)
      case let step: #expect(step == .wait)
      }
      #expect(assembler.shares.all.trials <= 4)
    }
    #expect(turnedAway == 996)
    let honest = self.events("honest", "t-1")
    let steps = honest.map { assembler.add($0, bytes: 40, now: self.start) }
    #expect(steps.last == .complete(TrialRecord(events: honest)))
  }

  @Test func `a whole trial counts until it is settled, however often it came`() {
    var assembler = self.assembler(robotTrials: 2, trials: 16)
    let trial = self.events("a", "t-1")
    for _ in 0..<2 { for event in trial { _ = assembler.add(event, bytes: 40, now: self.start) } }
    #expect(assembler.shares.all.trials == 2)
    guard case .noRoom = assembler.add(self.events("a", "t-2")[0], bytes: 40, now: self.start) else {
      Issue.record("a third trial had room")
      return
    }
    assembler.settled(robot: "a", trialID: "t-1")
    #expect(assembler.add(self.events("a", "t-2")[0], bytes: 40, now: self.start) == .wait)
    assembler.settled(robot: "a", trialID: "t-1")
    // What is not there gives nothing back.
    assembler.settled(robot: "a", trialID: "t-1")
    #expect(assembler.shares.holding(of: "a").trials == 1)
    assembler.forget(robot: "a", trialID: "t-2")
    #expect(assembler.shares.all == RobotShares.Holding())
  }

  @Test(arguments: 1...4) func `whatever comes, what is held is bounded, and all of it is given back`(
    seed: UInt64
  ) {
    var state = seed
    func below(_ bound: Int) -> Int {
      // Knuth's MMIX: a failure comes again.
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    var assembler = self.assembler(robotTrials: 3, trials: 10)
    var uploads: Set<[String]> = []
    var whole: [(String, String, TrialAssembler.Source)] = []
    for turn in 0..<5_000 {
      let robot = "r-\(below(6))"
      let id = "t-\(below(4))"
      let source: TrialAssembler.Source = below(2) == 0 ? .stream : .upload(1)
      let event = self.events(robot, id)[below(3)]
      if source != .stream { uploads.insert([robot, id]) }
      let bytes = 40 + below(400_000)
      if case .complete = assembler.add(event, bytes: bytes, from: source, now: self.start) {
        whole.append((robot, id, source))
      }
      #expect(assembler.shares.all.trials <= 10)
      #expect(assembler.shares.all.bytes <= 8 << 20)
      #expect(assembler.shares.holding(of: robot).trials <= 3)
      #expect(assembler.shares.holding(of: robot).bytes <= 1 << 20)
      if turn % 3 == 0, let (robot, id, source) = whole.popLast() {
        assembler.settled(robot: robot, trialID: id, from: source)
      }
      if turn % 50 == 0 {
        _ = assembler.expire(now: self.start + .seconds(60))
        for upload in uploads {
          _ = assembler.giveUp(robot: upload[0], trialID: upload[1], from: .upload(1))
        }
      }
    }
    for (robot, id, source) in whole { assembler.settled(robot: robot, trialID: id, from: source) }
    _ = assembler.expire(now: self.start + .seconds(60))
    for upload in uploads { assembler.forget(robot: upload[0], trialID: upload[1], from: .upload(1)) }
    #expect(assembler.shares.all == RobotShares.Holding())
    for robot in 0..<6 { #expect(assembler.shares.holding(of: "r-\(robot)") == RobotShares.Holding()) }
  }

  @Test func `memory is what values take, not what came on the way`() {
    let header = TrialEvent(robot: "r", trialID: "t", event: .header(TrialHeader()))
    #expect(header.memory(encoded: 10) < 1_000)
    let empty = TrialEvent(
      robot: "r", trialID: "t", number: 1,
      event: .steps(TrialSteps(steps: Array(repeating: TrialStep(), count: 1_000))))
    #expect(empty.memory(encoded: 2_000) >= 2_000 + 1_000 * MemoryLayout<TrialStep>.stride)
    let image = TrialEvent(
      robot: "r", trialID: "t", number: 1,
      event: .steps(TrialSteps(steps: [TrialStep(image: [UInt8](repeating: 0, count: 1 << 20))])))
    #expect(image.memory(encoded: 1 << 20) < (1 << 20) + 2_000)
  }

  /// A recorder fills events up to their size, so that a trial has few.
  @Test func `the largest trial that a robot records fits into the least share that can be set`() {
    let step = TrialStep(
      index: 1, jointAngles: Array(repeating: 0, count: 7), action: Array(repeating: 0, count: 4), image: [1],
      expertAction: Array(repeating: 0, count: 4), modelVersion: "v-1")
    let run = TrialEvent(
      robot: "r", trialID: "t", number: 1,
      event: .steps(TrialSteps(steps: Array(repeating: step, count: QualityLimits().maximumSteps))))
    let events = 2 * TrialLimits.bytes / TrialLimits.eventBytes
    let header = TrialEvent(robot: "r", trialID: "t", event: .header(TrialHeader())).memory(encoded: 0)
    #expect(run.memory(encoded: TrialLimits.bytes) + events * header <= 192 << 20)
  }
}
