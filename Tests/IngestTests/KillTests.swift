import Bus
import GRPCCore
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@Suite("Ingest, killed", .timeLimit(.minutes(5)))
struct KillTests {
  static let robots = ["robot-1", "robot-2", "robot-3"]
  static let kills = 22

  /// Killed at random moments while robots send: every acknowledged trial is there, and none twice.
  @Test func `kill -9 loses no acknowledged trial and stores none twice`() async throws {
    let temporary = try TemporaryFolder()
    let folder = temporary.path
    var ingest = try await Self.start(in: folder)
    let sending = Sending()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for robot in Self.robots {
        group.addTask { try await Self.send(as: robot, to: folder, until: sending) }
      }
      for _ in 0..<Self.kills {
        // Only a process that works can lose something: wait until it acknowledged again, then for a random while.
        let before = sending.acknowledged.count
        try await eventually("a trial is acknowledged after a kill") { sending.acknowledged.count > before }
        try await Task.sleep(for: .milliseconds(Int.random(in: 0...300)))
        ingest.kill()
        ingest = try await Self.start(in: folder)
      }
      sending.stop()
      try await group.waitForAll()
    }
    let acknowledged = sending.acknowledged
    #expect(acknowledged.count >= Self.kills)
    try await Self.withClient(folder) { client in
      var stored: [String] = []
      var token = ""
      repeat {
        let page = try await client.listTrials(
          ListTrialsRequest(pageSize: 1000, pageToken: token), options: .within(.seconds(10)))
        stored += page.trials.compactMap { $0.header.map { "\($0.robot)/\($0.trialID)" } }
        token = page.nextPageToken
      } while !token.isEmpty
      #expect(Set(stored).count == stored.count)
      #expect(acknowledged.subtracting(stored).isEmpty)
      let statistics = try await client.getStatistics(.init(), options: .within(.seconds(10)))
      #expect(statistics.duplicates == 0)
      #expect(statistics.stored == UInt64(stored.count))
      // The catalog's word is not enough: the events themselves must be readable.
      for name in acknowledged.shuffled().prefix(20) {
        let parts = name.split(separator: "/").map(String.init)
        let events = try await client.getTrial(
          GetTrialRequest(robot: parts[0], trialID: parts[1]), options: .within(.seconds(10))
        ) { response in
          try await response.messages.reduce(into: [TrialEvent]()) { $0.append($1) }
        }
        #expect(events == Self.trial(parts[0], parts[1]))
      }
    }
  }

  /// The real `ingest`, on sockets in a folder.
  private static func start(in folder: String) async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      "ingest",
      settings: [
        "ingest.data": "\(folder)/data", "ingest.rpc": "ipc://\(folder)/rpc",
        "ingest.trials": "ipc://\(folder)/trials", "ingest.publications": "ipc://\(folder)/publications",
        "ingest.quiet-seconds": "1", "log.level": "error",
      ])
  }

  /// A robot: publishes a trial, and sends it by call until somebody says that it is stored.
  private static func send(as robot: String, to folder: String, until sending: Sending) async throws {
    let publisher = try Publisher(
      .connect([Endpoint("ipc://\(folder)/trials")]), identity: robot, security: ClientSecurity.none)
    try await Self.withClient(folder) { client in
      var count = 0
      while !sending.isStopped {
        count += 1
        let trial = Self.trial(robot, "t-\(count)")
        for event in trial { try? await publisher.publish(event, to: .trials(robot: robot)) }
        // What was published may be stored already when the call comes: that is the point.
        for _ in 0..<100 {
          let answer = try? await client.upload(
            options: .within(.seconds(2)), requestProducer: { try await $0.write(contentsOf: trial) })
          if let answer, answer.state == .stored || answer.state == .duplicate {
            sending.acknowledge("\(robot)/t-\(count)")
            break
          }
          try await Task.sleep(for: .milliseconds(20))
        }
      }
    }
    await publisher.close()
  }

  private static func withClient<Result: Sendable>(
    _ folder: String, _ body: @Sendable (IngestService.Client<ZeroMQClientTransport>) async throws -> Result
  ) async throws -> Result {
    let connection = try RPCClient.connection(to: "ipc://\(folder)/rpc", service: "ingest", keys: "")
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await connection.runConnections() }
      defer { connection.beginGracefulShutdown() }
      return try await body(IngestService.Client(wrapping: connection))
    }
  }

  private static func trial(_ robot: String, _ id: String) -> [TrialEvent] {
    let header = TrialHeader(
      trialID: id, robot: robot, task: "reach", mode: .demonstration, startedUnixNanos: 5, imageHeight: 16,
      imageWidth: 16)
    let steps = (0..<3).map { index in
      TrialStep(
        index: UInt32(index), elapsedNanos: Int64(index), jointAngles: Array(repeating: 0.1, count: 7),
        action: [0, 0, 0, 1], image: [UInt8](repeating: UInt8(90 + index), count: 16 * 16 * 3))
    }
    let parts: [TrialEvent.Event] = [
      .header(header), .steps(TrialSteps(steps: steps)),
      .end(TrialEnd(outcome: .success, steps: 3, endedUnixNanos: 9)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }
}

/// What the robots of a test know.
private final class Sending: Sendable {
  private let state = Mutex((acknowledged: Set<String>(), stopped: false))
  var acknowledged: Set<String> { self.state.withLock { $0.acknowledged } }
  var isStopped: Bool { self.state.withLock { $0.stopped } }
  func acknowledge(_ trial: String) { self.state.withLock { _ = $0.acknowledged.insert(trial) } }
  func stop() { self.state.withLock { $0.stopped = true } }
}
