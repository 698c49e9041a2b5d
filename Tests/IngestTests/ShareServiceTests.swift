import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing
import Trials

@testable import IngestCore

/// Ingest on its sockets while one robot takes all that it can get.
@Suite("Ingest, shared by robots", .timeLimit(.minutes(5)))
struct ShareServiceTests {
  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private struct Served: Sendable {
    let folder: String
    let ingest: Ingest
    let store: TrialStore
    let metrics: MetricsRegistry
    let client: IngestService.Client<ZeroMQClientTransport>
    var intake: Intake { self.ingest.intake }
  }

  /// One robot may have 4 trials of 2 MB, all together 16 of 8 MB. Nothing expires.
  private func serve(_ body: @Sendable (Served) async throws -> Void) async throws {
    let temporary = try TemporaryFolder()
    let folder = temporary.path
    let store = try TrialStore(folder: URL(filePath: folder))
    var limits = TrialAssembler.Limits()
    limits.shares.robotTrials = 4
    limits.shares.robotBytes = 2 << 20
    limits.shares.trials = 16
    limits.shares.bytes = 8 << 20
    limits.quiet = .seconds(600)
    let metrics = MetricsRegistry()
    let ingest = Ingest(
      store: store,
      subscriber: try Subscriber(.bind(Endpoint("ipc://\(folder)/trials")), topics: [Topic("trials")]),
      publisher: try Publisher(.bind(Endpoint("ipc://\(folder)/acks")), identity: "ingest"), metrics: metrics,
      vitals: Vitals(), logger: Self.logger, limits: limits)
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: Endpoint("ipc://\(folder)/rpc")),
      services: [IngestEndpoint(intake: ingest.intake, store: store)])
    let connection = try RPCClient.connection(to: "ipc://\(folder)/rpc", service: "ingest", keys: "")
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      group.addTask { try? await ingest.run() }
      group.addTask { try await connection.runConnections() }
      defer {
        connection.beginGracefulShutdown()
        server.beginGracefulShutdown()
        group.cancelAll()
      }
      try await body(
        Served(
          folder: folder, ingest: ingest, store: store, metrics: metrics,
          client: IngestService.Client(wrapping: connection)))
    }
  }

  private final class Collected<Element: Sendable>: Sendable {
    private let state = Mutex<[Element]>([])
    var all: [Element] { self.state.withLock { $0 } }
    func add(_ element: Element) { self.state.withLock { $0.append(element) } }
  }

  private static func trial(_ robot: String, _ id: String, imageBytes: Int = 0) -> [TrialEvent] {
    let image = [UInt8](repeating: 7, count: imageBytes)
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: robot, task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0, action: [0, 0, 0, 0], image: image)])),
      .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  @Test func `streams without end of one robot keep no other's trial from being acknowledged`() async throws {
    try await self.serve { served in
      let heard = Collected<TrialAcknowledgement>()
      let acknowledgements = try Subscriber(
        .connect([Endpoint("ipc://\(served.folder)/acks")]), topics: [Topic.acknowledgements(robot: "honest")]
      )
      let listening = Task {
        for await message in acknowledgements.messages {
          let told = try message.decode(TrialAcknowledgement.self)
          heard.add(told)
        }
      }
      defer { listening.cancel() }
      let robots = try ["rogue", "honest"].map {
        try Publisher(.connect([Endpoint("ipc://\(served.folder)/trials")]), identity: $0)
      }
      // A publisher is heard once it is connected: of what it says meanwhile the beginning may be lost.
      try await eventually("the honest robot is heard") {
        for event in Self.trial("honest", "t-0") {
          try await robots[1].publish(event, to: .trials(robot: "honest"))
        }
        return heard.all.contains { $0.trialID == "t-0" && $0.state == .quarantined }
      }
      try await eventually("the rogue is heard") {
        try await robots[0].publish(Self.trial("rogue", "t-0")[0], to: .trials(robot: "rogue"))
        return await served.intake.incompleteTrials > 0
      }
      for number in 1...200 {
        try await robots[0].publish(Self.trial("rogue", "t-\(number)")[0], to: .trials(robot: "rogue"))
      }
      try await eventually("all of the rogue's streams have come") {
        served.metrics.value("ingest_turned_away_total") >= 197
      }
      #expect(await served.intake.held.trials == 4)
      try await eventually("the honest trial is acknowledged") {
        for event in Self.trial("honest", "t-1") {
          try await robots[1].publish(event, to: .trials(robot: "honest"))
        }
        return heard.all.contains { $0.trialID == "t-1" && $0.state == .quarantined }
      }
      #expect(heard.all.allSatisfy { $0.trialID == "t-0" || $0.state != .incomplete })
      #expect(try await served.store.catalog.position(robot: "honest", trialID: "t-1") != nil)
    }
  }

  @Test func `uploads without end of one robot are refused and keep no other's out`() async throws {
    try await self.serve { served in
      let refused = Collected<RPCError>()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<12 {
          group.addTask {
            do {
              _ = try await served.client.upload(options: .within(.seconds(100))) { writer in
                // 600 kB and never an end: three of them fill the robot's share.
                for event in Self.trial("rogue", "t-\(number)", imageBytes: 600_000).dropLast() {
                  try await writer.write(event)
                }
                try await Task.sleep(for: .seconds(100))
              }
            } catch let error as RPCError where error.code == .resourceExhausted {
              refused.add(error)
            }
          }
        }
        try await eventually("nine are refused") { refused.all.count == 9 }
        #expect(refused.all.allSatisfy { $0.message.contains("send this one again later") })
        let held = await served.intake.held
        #expect(held.trials == 3)
        #expect((1_800_000...2 << 20).contains(held.bytes))
        let honest = try await served.client.upload(options: .within(.seconds(60))) {
          try await $0.write(contentsOf: Self.trial("honest", "t-1", imageBytes: 600_000))
        }
        #expect(honest.state == .quarantined)
        group.cancelAll()
        while let result = await group.nextResult() { _ = result }
      }
      // Calls that are over hold nothing.
      try await eventually("their room is free again") { await served.intake.held == RobotShares.Holding() }
    }
  }
}
