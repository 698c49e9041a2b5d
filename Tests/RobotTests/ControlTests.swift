import GRPCCore
import IngestCore
import Schemas
import Storage
import TestSupport
import Testing
import Trials

@testable import RobotCore

@Suite struct ControlTests {
  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private func onlyTrial(_ robot: Robot) async throws -> [TrialEvent] {
    let pending = await robot.spool.pending
    try #require(pending.count == 1)
    return try #require(try await robot.spool.events(of: pending[0].trialID))
  }

  @Test func recordsADemonstration() async throws {
    let robot = try makeRobot(self.folder)
    let steps = 150
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [7]))
      let work = try await client.nextWork(NextWorkRequest(waitMillis: 1_000))
      #expect(work.item?.orderID == "o1" && work.item?.seed == 7)
      let observed = (0..<steps).map {
        Messages.observe(UInt32($0), proposed: $0 == 1 ? [0.9, 0, 0, 1] : [])
      }
      let answers = try await control(
        client, [Messages.start(order: "o1")] + observed + [Messages.finish()])
      #expect(answers.count == steps + 2)
      #expect(answers[1].command?.action == [0.5, -0.5, 0, 1])
      #expect(answers[2].command?.action == [0.9, 0, 0, 1])
      #expect(answers.last?.filed?.durable == true)
      let status = try await client.getStatus(GetRobotStatusRequest())
      #expect(status.filed == 1 && status.waiting == 0 && status.running == 0)
      #expect(status.heartbeat?.trialsStarted == 1 && status.heartbeat?.steps == UInt64(steps))
    }
    let events = try await self.onlyTrial(robot)
    #expect(events.map(\.number) == (0..<UInt32(events.count)).map { $0 })
    #expect(
      events.header?.orderID == "o1" && events.header?.robot == "r1" && events.header?.facility == "bench")
    #expect(events.steps.map(\.index) == (0..<UInt32(steps)).map { $0 })
    #expect(events.steps[1].action == [0.9, 0, 0, 1] && events.steps[1].expertAction == [0.5, -0.5, 0, 1])
    #expect(events.videos.reduce(0) { $0 + $1.frames } == UInt32(steps))
    #expect(events.videos.reduce(0) { $0 + $1.data.count } == steps * Int(Messages.side * Messages.side * 3))
    #expect(events.end?.outcome == .success && events.end?.steps == UInt32(steps))
  }

  @Test func actsWithTheHeldModelAndCountsFailures() async throws {
    let robot = try makeRobot(self.folder)
    robot.model.desire(
      DesiredVersion(robot: "r1", version: "v1", releaseID: "rel", generation: 1), from: .publication)
    robot.model.install(.init(FixedPolicy()))
    try await withService(robot) { client in
      _ = try await control(client, [Messages.start(), Messages.observe(0), Messages.finish(.failure)])
      for outcome in [Outcome.failure, .failure, .aborted] {
        let answers = try await control(
          client, [Messages.start(.labelledPolicy), Messages.observe(0), Messages.finish(outcome, "timeout")])
        #expect(answers[1].command?.action == [0.1, 0.2, 0.3, 0.4])
        #expect(answers[1].command?.modelVersion == "v1")
      }
      #expect(try await client.getStatus(GetRobotStatusRequest()).heartbeat?.consecutiveFailures == 3)
      _ = try await control(
        client, [Messages.start(.policy), Messages.observe(0, expert: []), Messages.finish()])
      #expect(try await client.getStatus(GetRobotStatusRequest()).heartbeat?.consecutiveFailures == 0)
    }
    let first = try #require(await robot.spool.pending.dropFirst().first)
    let events = try #require(try await robot.spool.events(of: first.trialID))
    #expect(events.header?.modelVersion == "v1" && events.header?.releaseID == "rel")
    #expect(events.steps.first?.expertAction == [0.5, -0.5, 0, 1])
  }

  @Test func holdsWithoutAModel() async throws {
    let robot = try makeRobot(self.folder)
    let answers = try await withService(robot) { client in
      try await control(
        client, [Messages.start(.policy), Messages.observe(0, expert: []), Messages.finish(.failure)])
    }
    #expect(answers[1].command?.action == [0, 0, 0, 0])
    #expect(answers[1].command?.fallback == true)
  }

  @Test(arguments: [
    [Messages.observe(0)], [Messages.finish()], [ControlRequest()], [Messages.start(.unspecified)],
    [Messages.start(), Messages.start()], [Messages.start(), Messages.observe(1)],
    [Messages.start(), Messages.observe(0, imageBytes: 100)],
    [Messages.start(), Messages.observe(0, joints: [0, 0])],
    [Messages.start(), Messages.observe(0, joints: [.nan, 0, 0, 0, 0, 0, 0])],
    [Messages.start(), Messages.observe(0, expert: [])],
    [Messages.start(), Messages.observe(0, expert: [.infinity, 0, 0, 0])],
  ])
  func refusesNonsense(_ requests: [ControlRequest]) async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      let error = await #expect(throws: RPCError.self) { try await control(client, requests) }
      #expect(error?.code == .invalidArgument)
      #expect(error?.message.isEmpty == false)
      try await eventually("the robot is free again") { robot.trials.current == nil }
    }
    for entry in await robot.spool.pending {
      let events = try #require(try await robot.spool.events(of: entry.trialID))
      #expect(events.end?.outcome == .aborted && events.steps.isEmpty)
    }
  }

  @Test func filesATrialThatNeverSawAnything() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [7]))
      _ = try await client.nextWork(NextWorkRequest(waitMillis: 1_000))
      let answers = try await control(
        client, [Messages.start(order: "o1"), Messages.finish(.aborted, "unknown-task")])
      #expect(answers.last?.filed?.durable == true)
      #expect(try await client.getStatus(GetRobotStatusRequest()).running == 0)
    }
    let events = try await self.onlyTrial(robot)
    #expect(events.end?.failureCode == "unknown-task" && events.end?.steps == 0)
  }

  @Test func filesATrialWhoseProgramSaysNonsenseAsAborted() async throws {
    let robot = try makeRobot(self.folder)
    _ = try? await withService(robot) { client in
      try await control(client, [Messages.start(), Messages.observe(0), Messages.observe(5)])
    }
    let events = try await self.onlyTrial(robot)
    #expect(events.end?.outcome == .aborted && events.end?.failureCode == "bad-observation")
    #expect(events.steps.count == 1)
  }

  @Test func filesATrialThatLostItsProgramAsAborted() async throws {
    let robot = try makeRobot(self.folder)
    _ = try await withService(robot) { client in
      try await control(client, [Messages.start(), Messages.observe(0), Messages.observe(1)])
    }
    #expect(try await self.onlyTrial(robot).end?.failureCode == "control-lost")
  }

  @Test func filesATrialThatFellSilentAsAborted() async throws {
    let robot = try makeRobot(self.folder) { $0.controlTimeout = .milliseconds(200) }
    try await withService(robot) { client in
      let error = await #expect(throws: RPCError.self) {
        try await client.control(
          requestProducer: { writer in
            try await writer.write(contentsOf: [Messages.start(), Messages.observe(0)])
            try await Task.sleep(for: .seconds(60))
          },
          onResponse: { response in for try await _ in response.messages {} })
      }
      #expect(error?.code == .aborted)
    }
    #expect(try await self.onlyTrial(robot).end?.outcome == .aborted)
  }

  @Test func letsARestartedProgramTakeOver() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [7, 8]))
      _ = try await client.nextWork(NextWorkRequest(waitMillis: 1_000))
      let lost = Task {
        try await client.control(
          requestProducer: { writer in
            try await writer.write(contentsOf: [Messages.start(order: "o1"), Messages.observe(0)])
            try await Task.sleep(for: .seconds(60))
          },
          onResponse: { response in for try await _ in response.messages {} })
      }
      try await eventually("the first trial runs") { robot.trials.current != nil }
      let next = try await client.nextWork(NextWorkRequest(waitMillis: 5_000))
      #expect(next.item?.seed == 8)
      await #expect(throws: RPCError.self) { try await lost.value }
    }
    #expect(try await self.onlyTrial(robot).end?.outcome == .aborted)
  }

  @Test func stopsAndHoldsStill() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      let answers = try await client.control(
        requestProducer: { writer in
          try await writer.write(contentsOf: [Messages.start(), Messages.observe(0)])
          try await eventually("a step is done") { robot.heartbeatSteps == 1 }
          _ = try await client.stop(StopRequest(reason: "someone is near"))
          try await writer.write(contentsOf: [Messages.observe(1), Messages.finish(.success)])
        },
        onResponse: { response in
          var commands: [Command] = []
          for try await message in response.messages {
            if let command = message.response?.command { commands.append(command) }
          }
          return commands
        })
      #expect(answers.map(\.stop) == [false, true])
      #expect(answers[1].action == [0, 0, 0, 1])
      let error = await #expect(throws: RPCError.self) { try await control(client, [Messages.start()]) }
      #expect(error?.code == .failedPrecondition)
      #expect(try await client.resume(ResumeRequest()).heartbeat?.state == .idle)
    }
    #expect(try await self.onlyTrial(robot).end?.outcome == .aborted)
  }

  @Test func stopsAtAJointLimitUntilResumed() async throws {
    let robot = try makeRobot(self.folder)
    let answers = try await withService(robot) { client in
      try await control(
        client,
        [Messages.start(), Messages.observe(0, joints: [3.3, 0, 0, 0, 0, 0, 0]), Messages.finish(.failure)])
    }
    #expect(answers[1].command?.stop == true)
    #expect(robot.heartbeat().state == .stopped)
    #expect(robot.safety.waiting.map(\.kind) == ["joint-limit"])
    try await eventually("it is kept") { robot.condition.unkept == nil }
    let restarted = try makeRobot(self.folder)
    #expect(restarted.condition.obstacle != nil, "a stop outlives a restart")
  }

  @Test func `a program that goes on observing beyond a joint limit stops the robot once`() async throws {
    let robot = try makeRobot(self.folder)
    let beyond = Messages.observe(0, joints: [3.3, 0, 0, 0, 0, 0, 0])
    let answers = try await withService(robot) { client in
      try await control(
        client, [Messages.start()] + Array(repeating: beyond, count: 50) + [Messages.finish(.failure)])
    }
    #expect(answers.compactMap(\.command).map(\.stop) == Array(repeating: true, count: 50))
    #expect(robot.safety.waiting.map(\.kind) == ["joint-limit"])
    #expect(robot.condition.standstills == 1, "each writes the condition and the orders")
  }

  @Test func obeysTheMonitorsDirectives() async throws {
    let robot = try makeRobot(self.folder)
    try await withService(robot) { client in
      _ = try await client.enqueue(Messages.order("o1", seeds: [1, 2]))
      await robot.follow(HealthDirective(robot: "r1", healthy: false, reason: "6 failures", generation: 2))
      let error = await #expect(throws: RPCError.self) {
        try await client.enqueue(Messages.order("o2", seeds: [1]))
      }
      #expect(error?.code == .failedPrecondition)
      #expect(error?.message.contains("6 failures") == true)
      let status = try await client.getStatus(GetRobotStatusRequest())
      #expect(status.waiting == 2 && status.held == 2 && status.heartbeat?.state == .unhealthy)
      await robot.follow(HealthDirective(robot: "r1", healthy: true, generation: 1))
      #expect(robot.condition.isUnhealthy, "an older directive is ignored")
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item == nil)
      await robot.follow(HealthDirective(robot: "r1", healthy: true, generation: 3))
      _ = try await client.enqueue(Messages.order("o2", seeds: [1]))
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1_000)).item?.orderID == "o2")
    }
  }

  @Test func `a trial that outgrows its bound is filed as aborted, and not done again for ever`() async throws
  {
    let robot = try makeRobot(self.folder) { $0.trialBytes = 20_000 }
    _ = try await robot.queue.enqueue(Messages.order("a", seeds: [7, 8]))
    _ = await robot.queue.next(within: .zero, modelVersion: "")
    try await withService(robot) { client in
      let observed = (0..<1_200).map { Messages.observe(UInt32($0)) }
      let error = await #expect(throws: RPCError.self) {
        try await control(client, [Messages.start(order: "a")] + observed + [Messages.finish()])
      }
      #expect(error?.code == .resourceExhausted)
      try await eventually("the robot is free again") { robot.trials.current == nil }
    }
    let end = try await self.onlyTrial(robot).last?.event
    guard case .end(let end) = end else { return #expect(Bool(false), "no end: \(String(describing: end))") }
    #expect(end.outcome == .aborted && end.failureCode == "too-large" && end.steps > 0)
    #expect(await robot.queue.next(within: .zero, modelVersion: "")?.seed == 8)
  }

  @Test func `a trial whose encoder fails is filed as aborted, and not done again for ever`() async throws {
    let robot = try makeRobot(self.folder)
    _ = try await robot.queue.enqueue(Messages.order("a", seeds: [7, 8]))
    _ = await robot.queue.next(within: .zero, modelVersion: "")
    try await withService(robot, makeCompressor: { BrokenImages() }) { client in
      await #expect(throws: RPCError.self) {
        try await control(client, [Messages.start(order: "a"), Messages.observe(0), Messages.finish()])
      }
      try await eventually("the robot is free again") { robot.trials.current == nil }
    }
    let events = try await self.onlyTrial(robot)
    #expect(events.steps.count == 1 && events.end?.outcome == .aborted)
    #expect(events.end?.failureCode == "recording-failed")
    #expect(await robot.queue.next(within: .zero, modelVersion: "")?.seed == 8)
  }

  /// Operations of the disk: 0 and 1 create the file and write its header, 2 to 6 keep the vitals, 7 to 9 write steps, video and
  /// end, 10 to 12 sync, move, and sync the folder; those behind keep the numbers and the orders.
  @Test(arguments: 0..<20)
  func `a trial that has its end is filed though the disk refuses any one thing`(failing: Int) async throws {
    let disk = FailingDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    _ = try await robot.queue.enqueue(Messages.order("a", seeds: [7]))
    _ = await robot.queue.next(within: .zero, modelVersion: "")
    disk.fail(after: failing)
    let isCut = [0, 1, 7, 8, 9].contains(failing)
    try await withService(robot) { client in
      let requests = [
        Messages.start(order: "a"), Messages.observe(0), Messages.observe(1), Messages.finish(),
      ]
      let answers = try? await control(client, requests)
      #expect((answers != nil) == !isCut)
      try await eventually("the robot is free again") { robot.trials.current == nil }
    }
    let usage = robot.spool.usage
    #expect(usage.acknowledged == 0 && usage.filed == (isCut ? 0 : 1))
    #expect(try self.folder.names("spool/open").isEmpty)
    if !isCut {
      #expect(try await self.onlyTrial(robot).steps.count == 2)
      let again = try makeRobot(self.folder).spool.usage
      #expect(again.filed == 1 && again.acknowledged == 0)
    } else {
      #expect(await robot.queue.next(within: .zero, modelVersion: "")?.seed == 7)
    }
  }

  @Test func `a trial that is moved, and then neither on nor back, is filed later and not done again`()
    async throws
  {
    let disk = FailingDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    _ = try await robot.queue.enqueue(Messages.order("a", seeds: [7]))
    _ = await robot.queue.next(within: .zero, modelVersion: "")
    // The operations that the test above names: the sync of the folder is refused, and all that follows.
    disk.die(after: 12)
    try await withService(robot) { client in
      let requests = [
        Messages.start(order: "a"), Messages.observe(0), Messages.observe(1), Messages.finish(),
      ]
      await #expect(throws: RPCError.self) { try await control(client, requests) }
      try await eventually("the robot is free again") { robot.trials.current == nil }
      #expect(robot.spool.usage.filed == 0)
      #expect(robot.heartbeat().unkept.contains("is recorded whole"))
      disk.refusesAll = false
      let error = await #expect(throws: RPCError.self) {
        try await client.nextWork(NextWorkRequest(waitMillis: 1))
      }
      #expect(error?.code == .resourceExhausted, "nobody begins what cannot be filed either")
      let writing = Task { await robot.keepWriting() }
      try await eventually("all is kept") { robot.unkept == nil }
      writing.cancel()
      await writing.value
      #expect(try await client.nextWork(NextWorkRequest(waitMillis: 1)).item == nil)
    }
    #expect(try await self.onlyTrial(robot).steps.count == 2)
    #expect(robot.spool.usage.filed == 1)
    let again = try makeRobot(self.folder)
    #expect(again.spool.usage == robot.spool.usage)
    #expect(await again.queue.next(within: .zero, modelVersion: "") == nil)
  }

  @Test func turnsNewTrialsAwayWhenTheSpoolIsFull() async throws {
    let robot = try makeRobot(self.folder) { $0.spoolBytes = 10 }
    try await robot.spool.store("t1")
    try await withService(robot) { client in
      for attempt in 0..<2 {
        let error = await #expect(throws: RPCError.self) {
          if attempt == 0 { _ = try await client.nextWork(NextWorkRequest()) }
          if attempt == 1 { _ = try await control(client, [Messages.start()]) }
        }
        #expect(error?.code == .resourceExhausted)
      }
    }
    #expect(await robot.spool.pending.map(\.trialID) == ["t1"])
  }
}

extension Robot {
  fileprivate var heartbeatSteps: UInt64 {
    var heartbeat = Heartbeat()
    self.vitals.describe(in: &heartbeat)
    return heartbeat.steps
  }
}

@Suite struct RecordingTests {
  @Test func imagesComeBackFromTheVideo() async throws {
    let folder = try TemporaryFolder()
    let header = TrialHeader(trialID: "t1", robot: "r1", imageHeight: 32, imageWidth: 48)
    let recorder = try TrialRecorder(
      header: header, path: folder.path + "/t1", executor: QueueExecutor(label: "test"), limitBytes: 1 << 30
    ) { width, height in try H264Images(width: width, height: height) }
    let count = TrialRecorder.imagesPerVideo + 40
    for index in 0..<count {
      let image = [UInt8](repeating: UInt8(index % 200), count: 32 * 48 * 3)
      try await recorder.append(TrialStep(index: UInt32(index)), image: image)
    }
    _ = try await recorder.finish(
      outcome: .success, failureCode: "", operatorIntervention: false, endedUnixNanos: 1)
    let events = try SpoolFile.events(at: folder.path + "/t1")
    #expect(events.videos.map(\.firstStep) == [0, UInt32(TrialRecorder.imagesPerVideo)])
    let images = try events.videos.flatMap { try VideoDecoder.decode($0) }
    #expect(images.count == count)
    for (index, image) in images.enumerated() {
      #expect(image.allSatisfy { abs(Int($0) - index % 200) <= 12 })
    }
    #expect(events.end?.steps == UInt32(count))
  }

  private static func recorder(
    _ folder: TemporaryFolder, side: UInt32, limitBytes: Int
  ) throws -> TrialRecorder {
    try TrialRecorder(
      header: TrialHeader(trialID: "t1", robot: "r1", imageHeight: side, imageWidth: side),
      path: folder.path + "/t1", executor: QueueExecutor(label: "test"), limitBytes: UInt64(limitBytes)
    ) { _, _ in PlainImages() }
  }

  @Test func `events are cut far below what a message may have`() async throws {
    let folder = try TemporaryFolder()
    let side = 512
    let recorder = try Self.recorder(folder, side: UInt32(side), limitBytes: 1 << 30)
    let image = [UInt8](repeating: 7, count: side * side * 3)
    let label = [Float](repeating: 0.5, count: 20_000)
    for index in 0..<20 {
      try await recorder.append(TrialStep(index: UInt32(index), expertAction: label), image: image)
    }
    _ = try await recorder.finish(
      outcome: .success, failureCode: "", operatorIntervention: false, endedUnixNanos: 1)
    let events = try SpoolFile.events(at: folder.path + "/t1")
    #expect(events.map(\.serializedSize).max()! <= TrialLimits.eventBytes + image.count + 1_000)
    #expect(events.videos.map(\.frames) == [UInt32](repeating: 2, count: 10))
    #expect(events.videos.map(\.firstStep) == (0..<10).map { $0 * 2 })
    #expect(events.steps.count == 20)
    #expect(events.map(\.number) == (0..<UInt32(events.count)).map { $0 })
  }

  @Test(arguments: [5_000, 20_000, 100_001]) func `a trial that reaches its bound is one that ingest takes`(
    limit: Int
  ) async throws {
    let folder = try TemporaryFolder()
    let recorder = try Self.recorder(folder, side: 16, limitBytes: limit)
    let image = [UInt8](repeating: 7, count: 16 * 16 * 3)
    var steps: UInt32 = 0
    let error = await #expect(throws: RobotError.self) {
      while steps < 1_000 {
        try await recorder.append(TrialStep(index: steps, action: [1, 1, 1, 1]), image: image)
        steps += 1
      }
    }
    #expect(error?.code == .tooLarge)
    let bytes = try await recorder.finish(
      outcome: .aborted, failureCode: String(repeating: "x", count: 256), operatorIntervention: false,
      endedUnixNanos: 1)
    #expect(bytes <= UInt64(limit))
    var limits = TrialAssembler.Limits()
    limits.trialBytes = limit
    var assembler = TrialAssembler(limits: limits)
    var taken: TrialRecord?
    for event in try SpoolFile.events(at: folder.path + "/t1") {
      if case .complete(let trial) = assembler.add(event, bytes: event.serializedSize, now: .now) {
        taken = trial
      }
    }
    #expect(taken?.steps.count == Int(steps))
    #expect(taken?.end?.steps == steps)
  }
}
