import Schemas
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// An ingest that does as it is told.
private final class IngestStub: Sendable {
  struct Unreachable: Error {}

  private struct State {
    var published: [TrialEvent] = []
    var uploads: [[TrialEvent]] = []
    var answers: [TrialState?] = []
    var missing: [EventRange] = []
  }

  private let state = Mutex(State())

  /// - Parameter answers: to the uploads, in order, the last one again and again; nil for a broken link.
  init(answers: [TrialState?] = [.stored], missing: [EventRange] = []) {
    self.state.withLock { $0 = State(answers: answers, missing: missing) }
  }

  var published: [TrialEvent] { self.state.withLock { $0.published } }
  var uploads: [[TrialEvent]] { self.state.withLock { $0.uploads } }

  func publish(_ event: TrialEvent) { self.state.withLock { $0.published.append(event) } }

  func upload(_ events: [TrialEvent]) throws -> TrialAcknowledgement {
    try self.state.withLock { state in
      state.uploads.append(events)
      let answer = state.answers.count > 1 ? state.answers.removeFirst() : state.answers.first ?? nil
      guard let answer else { throw Unreachable() }
      return TrialAcknowledgement(
        robot: "r1", trialID: events[0].trialID, state: answer, reasons: ["because"], missing: state.missing)
    }
  }
}

@Suite struct DeliveryTests {
  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  /// Runs a delivery while `body` looks on.
  private func withDelivery(
    _ robot: Robot, _ ingest: IngestStub, acknowledgementTimeout: Duration,
    _ body: (Delivery) async throws -> Void
  ) async throws {
    var configuration = Delivery.Configuration()
    configuration.acknowledgementTimeout = acknowledgementTimeout
    configuration.firstPause = .milliseconds(10)
    configuration.longestPause = .milliseconds(50)
    let delivery = Delivery(
      robot: robot, configuration: configuration, publish: { ingest.publish($0) },
      upload: { try ingest.upload($0) })
    let running = Task { await delivery.run() }
    try await body(delivery)
    running.cancel()
    await running.value
  }

  @Test func publishesEachTrialOnceAndWaitsForTheAcknowledgement() async throws {
    let robot = try makeRobot(self.folder)
    let ingest = IngestStub()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { delivery in
      try await robot.spool.store("t1")
      try await eventually("t1 is published") { ingest.published.count == 4 }
      #expect(ingest.published == Messages.events("t1"))
      await delivery.hear(TrialAcknowledgement(robot: "r2", trialID: "t1", state: .stored))
      #expect(await robot.spool.usage.trials == 1, "another robot's acknowledgement is not ours")
      await delivery.hear(TrialAcknowledgement(robot: "r1", trialID: "t1", state: .quarantined))
      await delivery.hear(TrialAcknowledgement(robot: "r1", trialID: "t1", state: .duplicate))
      #expect(await robot.spool.usage.trials == 0)
    }
    #expect(ingest.published.count == 4)
    #expect(ingest.uploads.isEmpty)
  }

  @Test func uploadsWhatNobodyAcknowledges() async throws {
    let robot = try makeRobot(self.folder)
    let ingest = IngestStub()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(50)) { _ in
      try await robot.spool.store("t1")
      try await eventually("t1 is delivered") { await robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads == [Messages.events("t1")])
  }

  @Test func deliversWhatAnEarlierAgentLeft() async throws {
    try await makeRobot(self.folder).spool.store("t1")
    let robot = try makeRobot(self.folder)
    let ingest = IngestStub()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { _ in
      try await eventually("t1 is delivered") { await robot.spool.usage.trials == 0 }
    }
    #expect(ingest.published.isEmpty)
    #expect(ingest.uploads == [Messages.events("t1")])
  }

  @Test func keepsTryingWhileTheLinkIsDown() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    try await robot.spool.store("t2")
    let ingest = IngestStub(answers: [nil, nil, nil, .stored])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("both are delivered") { await robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.count == 5)
    #expect(await robot.spool.usage.acknowledged == 2)
  }

  @Test func sendsOnlyWhatIsMissing() async throws {
    let robot = try makeRobot(self.folder)
    let ingest = IngestStub()
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .seconds(60)) { delivery in
      try await robot.spool.store("t1")
      try await eventually("t1 is published") { ingest.published.count == 4 }
      await delivery.hear(
        TrialAcknowledgement(
          robot: "r1", trialID: "t1", state: .incomplete, missing: [EventRange(first: 1, last: 2)]))
      try await eventually("t1 is delivered") { await robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.map { $0.map(\.number) } == [[1, 2]])
  }

  @Test func goesOnWhereIngestAsksForMoreAfterAnUpload() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    let ingest = IngestStub(answers: [.incomplete, .stored], missing: [EventRange(first: 3, last: 3)])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("t1 is delivered") { await robot.spool.usage.trials == 0 }
    }
    #expect(ingest.uploads.map { $0.map(\.number) } == [[0, 1, 2, 3], [3]])
  }

  @Test func movesAsideWhatIsRefused() async throws {
    let robot = try makeRobot(self.folder)
    try await robot.spool.store("t1")
    let ingest = IngestStub(answers: [.refused])
    try await self.withDelivery(robot, ingest, acknowledgementTimeout: .milliseconds(10)) { _ in
      try await eventually("t1 is moved aside") { await robot.spool.usage.refused == 1 }
    }
    #expect(try self.folder.names("spool/refused") == ["000000000001_t1", "000000000001_t1.reason"])
    #expect(await robot.spool.usage.acknowledged == 0)
    #expect(ingest.uploads.count == 1)
  }
}

@Suite struct VersionFollowerTests {
  private struct Refused: Error {}

  @Test func installsReportsAndGoesBack() async throws {
    let folder = try TemporaryFolder()
    let robot = try makeRobot(folder)
    let reports = Mutex<[ReportVersionRequest]>([])
    let follower = VersionFollower(
      robot: robot, interval: .milliseconds(20),
      install: { version in
        guard version != "bad" else { throw Refused() }
        return FixedPolicy(version: version)
      },
      report: { request in
        reports.withLock { $0.append(request) }
        return DesiredVersion(robot: "r1", version: "v1", releaseID: "rel", generation: 1)
      })
    let running = Task { await follower.run() }
    defer { running.cancel() }
    try await eventually("v1 is reported") { reports.withLock { $0.last?.version == "v1" } }
    #expect(reports.withLock { $0.first?.version } == "")
    robot.model.desire(DesiredVersion(robot: "r1", version: "bad", generation: 2))
    try await eventually("the failure is reported") { reports.withLock { $0.last?.error.isEmpty == false } }
    #expect(robot.model.current?.version == "v1")
    robot.model.desire(DesiredVersion(robot: "r1", version: "v2", generation: 3))
    try await eventually("v2 is reported") {
      reports.withLock { $0.last?.version == "v2" && $0.last?.generation == 3 && $0.last?.error == "" }
    }
    robot.model.desire(DesiredVersion(robot: "r1", version: "v1", generation: 2))
    #expect(robot.model.desired.version == "v2", "an older wish is ignored")
  }

  @Test func reportsAVersionOnlyWhenItActsWithIt() async throws {
    let robot = try makeRobot(try TemporaryFolder())
    robot.model.install(FixedPolicy(version: "v1"))
    try robot.trials.take(.init(trialID: "t1", modelVersion: "v1"))
    let reports = Mutex<[String]>([])
    let follower = VersionFollower(
      robot: robot, interval: .milliseconds(10), install: { FixedPolicy(version: $0) },
      report: { request in
        reports.withLock { $0.append(request.version) }
        return DesiredVersion(robot: "r1", version: "v2", generation: 1)
      })
    let running = Task { await follower.run() }
    defer { running.cancel() }
    try await eventually("v2 is installed") { robot.model.current?.version == "v2" }
    try await eventually("and reported again") { reports.withLock { $0.count } > 5 }
    #expect(reports.withLock { !$0.contains("v2") })
    robot.trials.release("t1")
    try await eventually("v2 is reported") { reports.withLock { $0.last } == "v2" }
  }
}
