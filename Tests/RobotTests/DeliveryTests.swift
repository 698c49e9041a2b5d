import Foundation
import GRPCCore
import IngestCore
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing
import Trials

@testable import RobotCore

/// A network to an ingest that does as it is told.
private final class ScriptedIngest: Sendable {
  enum Answer {
    case says(TrialState)
    case unavailable
    case fails
  }

  private struct State {
    var published: [TrialEvent] = []
    var uploads: [[TrialEvent]] = []
    var answers: [Answer] = []
    var bad: Set<String> = []
  }

  private let state = Mutex(State())

  /// - Parameters:
  ///   - answers: to the uploads, in order, the last one again and again.
  ///   - bad: trials whose upload never gets on.
  init(answers: [Answer] = [.says(.stored)], bad: Set<String> = []) {
    self.state.withLock { $0 = State(answers: answers, bad: bad) }
  }

  var published: [TrialEvent] { self.state.withLock { $0.published } }
  var uploads: [[TrialEvent]] { self.state.withLock { $0.uploads } }

  func publish(_ event: [UInt8]) throws {
    let event = try TrialEvent(serializedBytes: event)
    self.state.withLock { $0.published.append(event) }
  }

  func upload(_ events: [TrialEvent]) async throws -> TrialAcknowledgement {
    let answer = self.state.withLock { state -> Answer? in
      state.uploads.append(events)
      guard !state.bad.contains(events[0].trialID) else { return nil }
      return state.answers.count > 1 ? state.answers.removeFirst() : state.answers[0]
    }
    switch answer {
    case .says(let state):
      return TrialAcknowledgement(
        robot: "r1", trialID: events[0].trialID, state: state, reasons: ["because"])
    case .unavailable: throw RPCError(code: .unavailable, message: "no route")
    case .fails: throw RPCError(code: .internalError, message: "broken")
    case nil:
      try await Task.sleep(for: .seconds(3_600))
      throw CancellationError()
    }
  }
}

/// The machine's disk, on which chosen files cannot be opened for a while.
private final class UnreadableDisk: DiskDouble {
  let inner = SystemDisk()
  private let left = Mutex<[String: Int]>([:])

  /// How often opening a file fails still, by the file's name.
  var failures: [String: Int] {
    get { self.left.withLock { $0 } }
    set { self.left.withLock { $0 = newValue } }
  }

  func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    let fails = self.left.withLock { left -> Bool in
      guard let name = path.split(separator: "/").last.map(String.init), let count = left[name], count > 0
      else { return false }
      left[name] = count - 1
      return true
    }
    if fails { throw StorageError(.fileSystem, "Cannot open \(path): input/output error.") }
    return try self.inner.open(path, access, mode: mode)
  }
}

/// Answers that were errors.
private final class Refusals: Sendable {
  private let state = Mutex<[RPCError]>([])
  var all: [RPCError] { self.state.withLock { $0 } }
  func add(_ error: RPCError) { self.state.withLock { $0.append(error) } }
}

@Suite struct DeliveryTests {
  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private static func configuration(_ acknowledgementTimeout: Duration) -> Delivery.Configuration {
    var configuration = Delivery.Configuration()
    configuration.acknowledgementTimeout = acknowledgementTimeout
    configuration.firstPause = .milliseconds(10)
    configuration.longestPause = .milliseconds(50)
    configuration.longestLinkPause = .milliseconds(50)
    return configuration
  }

  /// Runs a delivery while `body` looks on.
  private func withDelivery(
    _ robot: Robot, _ ingest: ScriptedIngest, acknowledgementTimeout: Duration,
    configure: (inout Delivery.Configuration) -> Void = { _ in }, _ body: (Delivery) async throws -> Void
  ) async throws {
    var configuration = Self.configuration(acknowledgementTimeout)
    configure(&configuration)
    let delivery = Delivery(
      robot: robot.name, spool: robot.spool, configuration: configuration, logger: robot.logger,
      publish: { try ingest.publish($0) },
      lost: { robot.report(lost: $0, at: $1, because: $2) },
      upload: { events, _ in try await ingest.upload(events) })
    let running = Task { await delivery.run() }
    defer { running.cancel() }
    try await body(delivery)
    running.cancel()
    await running.value
  }

  @Test func publishesEachTrialOnceAndWaitsForTheAcknowledgement() async throws {
    let robot = try makeRobot(self.folder)
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { delivery in
      try await robot.spool.store("t1")
      try await eventually("t1 is published") { ingest.published.count == 4 }
      #expect(ingest.published == Messages.events("t1"))
      await delivery.hear(TrialAcknowledgement(robot: "r2", trialID: "t1", state: .stored))
      #expect(robot.spool.usage.trials == 1, "another robot's acknowledgement is not ours")
      await delivery.hear(TrialAcknowledgement(robot: "r1", trialID: "t1", state: .quarantined))
      await delivery.hear(TrialAcknowledgement(robot: "r1", trialID: "t1", state: .duplicate))
      #expect(robot.spool.usage.trials == 0)
    }
    #expect(ingest.published.count == 4)
    #expect(ingest.uploads.isEmpty)
  }

  @Test func uploadsWhatNobodyAcknowledges() async throws {
    let robot = try makeRobot(self.folder)
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(50)) { _ in
      try await robot.spool.store("t1")
      try await eventually("t1 is delivered") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads == [Messages.events("t1")])
  }

  @Test func deliversWhatAnEarlierAgentLeft() async throws {
    try await makeRobot(self.folder).spool.store("t1")
    let robot = try makeRobot(self.folder)
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { _ in
      try await eventually("t1 is delivered") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.published.isEmpty)
    #expect(ingest.uploads == [Messages.events("t1")])
  }

  @Test func `a trial that an agent without checksums left arrives after the upgrade`() async throws {
    try await makeRobot(self.folder).spool.store("t1")
    let file = URL(filePath: self.folder.path + "/spool/ready/000000000001_t1")
    try Messages.uncheckedSpoolFile("t1").write(to: file)
    let robot = try makeRobot(self.folder)
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { _ in
      try await eventually("t1 is delivered") { robot.spool.usage.acknowledged == 1 }
    }
    #expect(ingest.uploads == [Messages.events("t1")])
    #expect(robot.safety.waiting.isEmpty)
  }

  @Test func keepsTryingWhileTheLinkIsDown() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    try await robot.spool.store("t2")
    let ingest = ScriptedIngest(answers: [
      .unavailable, .unavailable, .fails, .unavailable, .says(.incomplete), .says(.stored),
    ])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("both are delivered") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.count == 7)
    #expect(robot.spool.usage.acknowledged == 2)
  }

  @Test func `a trial that cannot go up holds up none behind it`() async throws {
    let robot = try makeRobot(self.folder)
    let ids = (1...8).map { "t\($0)" }
    for id in ids { try await robot.spool.store(id) }
    let ingest = ScriptedIngest(bad: ["t1", "t2"])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("all others are delivered") {
        await robot.spool.pending.map(\.trialID) == ["t1", "t2"]
      }
    }
  }

  @Test func `an upload that does not get on is given up and tried again`() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    let ingest = ScriptedIngest(bad: ["t1"])
    let patience = Duration.milliseconds(20)
    try await self.withDelivery(
      robot, ingest, acknowledgementTimeout: .milliseconds(10), configure: { $0.uploadPatience = patience }
    ) { _ in
      try await eventually("t1 is tried again") { ingest.uploads.count >= 3 }
    }
    #expect(ingest.uploads.allSatisfy { $0 == Messages.events("t1") })
  }

  /// Ingest itself over a real store, behind a network that loses chosen events of the stream.
  @Test func `a trial that lost any of its events arrives in full after one upload`() async throws {
    let ingest = try IngestUnderTest()
    let count = Messages.events("t0").count
    for lost in 0..<(1 << count) {
      let folder = try TemporaryFolder()
      let robot = try makeRobot(folder)
      let trialID = "t\(lost)"
      let uploads = Mutex(0)
      let heard = AsyncStream.makeStream(of: TrialAcknowledgement.self)
      let intake = Intake(
        store: ingest.store, metrics: ingest.metrics, vitals: ServiceKit.Vitals(),
        logger: IngestUnderTest.logger
      ) { publication in
        if case .acknowledgement(let acknowledgement) = publication {
          heard.continuation.yield(acknowledgement)
        }
      }
      let delivery = Delivery(
        robot: robot.name, spool: robot.spool,
        // Long where the stream is whole, so that an upload would be one too many.
        configuration: Self.configuration(lost == 0 ? .seconds(600) : .milliseconds(20)),
        logger: robot.logger,
        publish: { bytes in
          let event = try TrialEvent(serializedBytes: bytes)
          guard lost & (1 << Int(event.number)) == 0 else { return }
          if let trial = await intake.take(event, bytes: bytes.count) { await intake.settle(trial) }
        },
        lost: { Issue.record("\($0) is lost as \($1): \($2)") },
        upload: { events, _ in
          uploads.withLock { $0 += 1 }
          return try await intake.upload(
            AsyncStream { continuation in
              for event in events { continuation.yield(event) }
              continuation.finish()
            })
        })
      let running = [
        Task { await delivery.run() },
        Task { for await acknowledgement in heard.stream { await delivery.hear(acknowledgement) } },
      ]
      try await robot.spool.store(trialID)
      try await eventually("without \(lost) it is delivered") { robot.spool.usage.acknowledged == 1 }
      for task in running { task.cancel() }
      for task in running { await task.value }
      #expect(uploads.withLock { $0 } == (lost == 0 ? 0 : 1))
    }
    let stored = try await ingest.trials()
    #expect(stored.count == 1 << count)
    for (trialID, events) in stored { #expect(events == Messages.events(trialID)) }
  }

  @Test func `a trial whose file is gone is set aside at once, told, and not taken for acknowledged`()
    async throws
  {
    let robot = try makeRobot(self.folder)
    for trial in ["t1", "t2"] { try await robot.spool.store(trial) }
    try FileManager.default.removeItem(atPath: self.folder.path + "/spool/ready/000000000001_t1")
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("t1 is set aside, t2 delivered") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads == [Messages.events("t2")])
    let event = try #require(robot.safety.waiting.first)
    #expect(robot.safety.waiting.count == 1 && event.kind == "trial-lost" && event.trialID == "t1")
    #expect(event.detail.contains("spool/refused/000000000001_t1"))
    #expect(try self.folder.names("spool/refused") == ["000000000001_t1", "000000000001_t1.reason"])
    let again = try Spool(folder: self.folder.path + "/spool", limitBytes: 1 << 20)
    #expect(again.usage.acknowledged == 1)
    #expect(again.usage.refused == 1)
  }

  @Test func `a trial in which a bit turned on the disk never leaves the robot, and is told`() async throws {
    let robot = try makeRobot(self.folder)
    let damaged = (0..<16).map { "d\($0)" }
    for (index, trial) in damaged.enumerated() {
      try await robot.spool.store(trial)
      let name = String(format: "%012d", index + 1) + "_\(trial)"
      let file = URL(filePath: self.folder.path + "/spool/ready/\(name)")
      let whole = try Data(contentsOf: file)
      try whole.turning(whole.count * 8 * index / damaged.count).write(to: file)
    }
    try await robot.spool.store("t1")
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("only what is whole arrives") { robot.spool.usage.trials == 0 }
    }
    #expect(Set(ingest.published.map(\.trialID)).isSubset(of: ["t1"]))
    #expect(ingest.uploads == [Messages.events("t1")])
    #expect(Set(robot.safety.waiting.map(\.trialID)) == Set(damaged))
    #expect(robot.safety.waiting.allSatisfy { $0.kind == "trial-lost" })
    #expect(robot.spool.usage.refused == 16)
  }

  @Test func `a trial that cannot be read is tried again, then set aside and told`() async throws {
    let disk = UnreadableDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    for trial in ["t1", "t2", "t3"] { try await robot.spool.store(trial, on: disk) }
    // One can be read again before it is given up.
    disk.failures = ["000000000001_t1": .max, "000000000002_t2": 3]
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("t1 is set aside, the others delivered") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.map { $0[0].trialID }.sorted() == ["t2", "t3"])
    #expect(robot.safety.waiting.map(\.trialID) == ["t1"])
    #expect(robot.safety.waiting.first?.detail.contains("input/output error") == true)
    #expect(robot.spool.usage.refused == 1)
    disk.failures = [:]
    let kept = try SpoolFile.events(at: self.folder.path + "/spool/refused/000000000001_t1")
    #expect(kept == Messages.events("t1"), "what is left of it is kept")
  }

  @Test func `a trial alone in the spool that cannot be read is set aside too`() async throws {
    let disk = UnreadableDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    try await robot.spool.store("t1", on: disk)
    disk.failures = ["000000000001_t1": .max]
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("it is set aside") { robot.spool.usage.refused == 1 }
    }
    #expect(robot.safety.waiting.map(\.trialID) == ["t1"])
  }

  @Test(arguments: 0...1)
  func `a trial that can be read again when it would be given up is sent`(extra: Int) async throws {
    let disk = UnreadableDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    try await robot.spool.store("t1", on: disk)
    // Whoever looks whether the disk reads anything at all opens it, too.
    disk.failures = ["000000000001_t1": Delivery.readAttempts + extra]
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("it waits no more") { robot.spool.usage.trials == 0 }
    }
    #expect(robot.spool.usage.refused == 0 && robot.safety.waiting.isEmpty)
    #expect(ingest.uploads.map { $0[0].trialID } == ["t1"])
  }

  @Test func `a disk that reads nothing for a while loses no trial`() async throws {
    let disk = UnreadableDisk()
    let robot = try makeRobot(self.folder, disk: disk)
    for trial in ["t1", "t2", "t3"] { try await robot.spool.store(trial, on: disk) }
    let names = ["000000000001_t1", "000000000002_t2", "000000000003_t3", "ledger.json"]
    disk.failures = Dictionary(uniqueKeysWithValues: names.map { ($0, Int.max) })
    let ingest = ScriptedIngest()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("each was tried often") {
        let isTried = disk.failures.values.allSatisfy { $0 < Int.max - 12 }
        let usage = robot.spool.usage
        return isTried || usage.refused > 0
      }
      disk.failures = [:]
      try await eventually("none waits any more") { robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.map { $0[0].trialID }.sorted() == ["t1", "t2", "t3"])
    #expect(robot.spool.usage.refused == 0)
    #expect(robot.safety.waiting.isEmpty, "nothing is lost")
  }

  @Test func `a robot for whose trials ingest has no room now backs off and loses nothing`() async throws {
    let ingest = try IngestUnderTest()
    let robot = try makeRobot(self.folder)
    var limits = TrialAssembler.Limits()
    limits.shares.robotTrials = 1
    let intake = Intake(
      store: ingest.store, limits: limits, metrics: ingest.metrics, vitals: ServiceKit.Vitals(),
      logger: IngestUnderTest.logger
    ) { _ in }
    // An upload of an earlier life of the robot that never ends takes all its room.
    let (hanging, continuation) = AsyncStream.makeStream(of: TrialEvent.self)
    let earlier = Task { try await intake.upload(hanging) }
    continuation.yield(Messages.events("t0")[0])
    try await eventually("the room is taken") { await intake.held.trials == 1 }
    let refused = Refusals()
    let delivery = Delivery(
      robot: robot.name, spool: robot.spool, configuration: Self.configuration(.milliseconds(10)),
      logger: robot.logger,
      publish: { bytes in
        let event = try TrialEvent(serializedBytes: bytes)
        if let trial = await intake.take(event, bytes: bytes.count) { await intake.settle(trial) }
      },
      lost: { Issue.record("\($0) is lost as \($1): \($2)") },
      upload: { events, _ in
        do {
          return try await intake.upload(
            AsyncStream { continuation in
              for event in events { continuation.yield(event) }
              continuation.finish()
            })
        } catch let error as RPCError {
          refused.add(error)
          throw error
        }
      })
    let running = Task { await delivery.run() }
    for id in ["t1", "t2", "t3"] { try await robot.spool.store(id) }
    try await eventually("uploads are refused, and tried again") { refused.all.count >= 10 }
    #expect(refused.all.allSatisfy { $0.code == .resourceExhausted })
    #expect(robot.spool.usage.trials == 3, "it keeps what is not stored")
    continuation.finish()
    _ = try await earlier.value
    try await eventually("all are stored") { robot.spool.usage.acknowledged == 3 }
    running.cancel()
    await running.value
    #expect(try await ingest.trials().keys.sorted() == ["t1", "t2", "t3"])
    #expect(try await ingest.store.usage().duplicates == 0)
    #expect(robot.spool.usage.refused == 0)
  }

  @Test func `a trial that ingest refuses is set aside and told`() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    let ingest = ScriptedIngest(answers: [.says(.refused)])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("t1 is moved aside") { robot.spool.usage.refused == 1 }
    }
    #expect(try self.folder.names("spool/refused") == ["000000000001_t1", "000000000001_t1.reason"])
    #expect(robot.spool.usage.acknowledged == 0)
    #expect(ingest.uploads.count == 1)
    let event = try #require(robot.safety.waiting.first)
    #expect(robot.safety.waiting.count == 1 && event.kind == "trial-lost" && event.trialID == "t1")
    #expect(event.detail.contains("spool/refused/000000000001_t1") && event.detail.contains("because"))
  }

  /// The agent ends at every single operation of its disk in turn.
  @Test(arguments: [false, true]) func `wherever the agent ends, a trial that left the spool is told once`(
    isGone: Bool
  ) async throws {
    var operations = 0
    for ending in 0..<100 {
      let folder = try TemporaryFolder()
      let disk = FailingDisk()
      do {
        let robot = try makeRobot(folder, disk: disk)
        try await robot.spool.store("t1", on: disk)
        if isGone { try FileManager.default.removeItem(atPath: folder.path + "/spool/ready/000000000001_t1") }
        disk.die(after: ending)
        let delivery = Delivery(
          robot: robot.name, spool: robot.spool, logger: robot.logger, publish: { _ in },
          lost: { robot.report(lost: $0, at: $1, because: $2) },
          upload: { _, _ in TrialAcknowledgement() })
        await delivery.hear(
          TrialAcknowledgement(robot: "r1", trialID: "t1", state: .refused, reasons: ["no such task"]))
      }
      // The second start finds it told.
      for _ in 0..<2 {
        let robot = try makeRobot(folder)
        let usage = robot.spool.usage
        let told = robot.safety.waiting.filter { $0.kind == "trial-lost" && $0.trialID == "t1" }
        if isGone, usage.refused == 0 {
          #expect(told.isEmpty && ending < 4, "ends at \(ending)")
        } else {
          #expect(usage.trials + UInt32(usage.refused) == 1, "ends at \(ending)")
          #expect(told.count == Int(usage.refused), "ends at \(ending)")
          #expect(
            told.allSatisfy { $0.detail.contains("000000000001_t1") && $0.detail.contains("no such task") })
        }
      }
      operations = ending
      guard disk.hasFailed else { break }
    }
    #expect((4..<99).contains(operations))
  }
}
