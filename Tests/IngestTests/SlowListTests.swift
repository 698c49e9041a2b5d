import Bus
import Foundation
import GRPCCore
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing
import Trials

@testable import IngestCore

/// Lists that take long, as of a catalog with millions of trials on a slow disk.
@Suite("IngestEndpoint, slow lists", .timeLimit(.minutes(5)))
struct SlowListTests {
  /// Holds up each answer of a catalog.
  private final class Gate: Sendable {
    private let state = Mutex((isOpen: false, waiting: 0, wasLate: false))
    private let goOn = DispatchSemaphore(value: 0)

    func pass() {
      let waits = self.state.withLock { state in
        if !state.isOpen { state.waiting += 1 }
        return !state.isOpen
      }
      // Far longer than any of this takes; without an end the test had none where it fails.
      guard waits, self.goOn.wait(timeout: .now() + 20) == .timedOut else { return }
      self.state.withLock { ($0.wasLate, $0.isOpen) = (true, true) }
    }

    func open() {
      let waiting = self.state.withLock { state in
        state.isOpen = true
        return state.waiting
      }
      for _ in 0..<waiting { self.goOn.signal() }
    }

    /// Whether somebody waited until nobody waits any more.
    var wasLate: Bool { self.state.withLock { $0.wasLate } }

    /// Returns once that many answers are held up.
    func isReached(by count: Int) async throws {
      for _ in 0..<1_000 where self.state.withLock({ $0.waiting < count }) {
        try await Task.sleep(for: .milliseconds(10))
      }
      try #require(self.state.withLock { $0.waiting } == count)
    }
  }

  private static func trial(_ id: String) -> [TrialEvent] {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: "robot-1", task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0)])), .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: "robot-1", trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  /// A store whose catalog answers once the gate is open.
  private static func store(in folder: TemporaryFolder, _ gate: Gate) throws -> TrialStore {
    try TrialStore(
      folder: folder.path, disk: SystemDisk(), runtime: .system,
      catalog: try TrialCatalog(path: "\(folder.path)/catalog.sqlite", beforeAnswering: gate.pass))
  }

  private static func upload(_ id: String, to intake: Intake) async throws -> TrialState {
    let events = AsyncStream { continuation in
      for event in Self.trial(id) { continuation.yield(event) }
      continuation.finish()
    }
    return try await intake.upload(events).state
  }

  @Test func `however many lists hang, trials are stored and acknowledged`() async throws {
    let folder = try TemporaryFolder()
    let gate = Gate()
    let store = try Self.store(in: folder, gate)
    let intake = Told().intake(store)
    let endpoint = IngestEndpoint(intake: intake, store: store)
    func list(_ caller: String) async throws -> [TrialSummary] {
      try await withServerContextRPCCancellationHandle { cancellation in
        let context = ServerContext(
          descriptor: IngestService.Method.ListTrials.descriptor, remotePeer: caller, localPeer: "test",
          cancellation: cancellation)
        return try await endpoint.listTrials(
          request: ListTrialsRequest(query: TrialQuery(includeQuarantined: true)), context: context
        ).trials
      }
    }
    #expect(try await Self.upload("t-0", to: intake) == .quarantined)
    let lists = (0..<OpenReads.limit).map { number in Task { try await list("caller-\(number)").count } }
    try await gate.isReached(by: OpenReads.limit)
    for index in 1..<4 { #expect(try await Self.upload("t-\(index)", to: intake) == .quarantined) }
    #expect(try await Self.upload("t-1", to: intake) == .duplicate)
    #expect(!gate.wasLate, "a list ended before")
    let refused = await #expect(throws: RPCError.self) { try await list("one-more") }
    #expect(refused?.code == .resourceExhausted)
    // Who hangs up is answered no more, and its place is free once it has ended.
    let givenUp = lists[0]
    givenUp.cancel()
    gate.open()
    await #expect(throws: CancellationError.self) { try await givenUp.value }
    for list in lists.dropFirst() { #expect(try await list.value == 1) }
    #expect(try await list("one-more").count == 4)
  }

  /// Says when calls are cancelled, and how those end that fail.
  private final class Ends: ServerInterceptor {
    private let cancelled = Mutex(false)
    private let failed = Mutex<(any Error)?>(nil)

    var isCancelled: Bool { self.cancelled.withLock { $0 } }
    var failure: (any Error)? { self.failed.withLock { $0 } }

    func intercept<Input: Sendable, Output: Sendable>(
      request: StreamingServerRequest<Input>, context: ServerContext,
      next:
        @Sendable (StreamingServerRequest<Input>, ServerContext) async throws
        -> StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
      try await withTaskCancellationHandler {
        do { return try await next(request, context) } catch {
          self.failed.withLock { $0 = error }
          throw error
        }
      } onCancel: {
        self.cancelled.withLock { $0 = true }
      }
    }
  }

  @Test func `a list that is over for its caller ends in the catalog too`() async throws {
    let folder = try TemporaryFolder()
    let gate = Gate()
    let store = try Self.store(in: folder, gate)
    let intake = Told().intake(store)
    let ends = Ends()
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: Endpoint("ipc://\(folder.path)/rpc")),
      services: [IngestEndpoint(intake: intake, store: store)], interceptors: [ends])
    let connection = try RPCClient.connection(
      to: "ipc://\(folder.path)/rpc", service: "ingest", keys: "")
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      group.addTask { try await connection.runConnections() }
      defer {
        gate.open()
        connection.beginGracefulShutdown()
        server.beginGracefulShutdown()
        group.cancelAll()
      }
      let client = IngestService.Client(wrapping: connection)
      let list = Task { try await client.listTrials(ListTrialsRequest(), options: .within(.seconds(60))) }
      try await gate.isReached(by: 1)
      list.cancel()
      await #expect(throws: (any Error).self) { try await list.value }
      try await eventually("the call is cancelled", within: .seconds(15)) { ends.isCancelled }
      gate.open()
      try await eventually("the call ends", within: .seconds(15)) { ends.failure != nil }
      #expect(ends.failure is CancellationError)
      #expect(!gate.wasLate)
      #expect(try await client.listTrials(ListTrialsRequest(), options: .within(.seconds(60))).trials == [])
    }
  }
}
