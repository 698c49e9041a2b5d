import Bus
import GRPCCore
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@Suite("Calls that may be made twice", .timeLimit(.minutes(5)))
struct RetryTests {
  /// Goes away in the first calls, as a service does that is killed and started again.
  private final class Inference: InferenceService.SimpleServiceProtocol {
    private let failures: Int
    let calls = Mutex(0)

    init(failures: Int) { self.failures = failures }

    private func count() throws {
      let calls = self.calls.withLock { calls in
        calls += 1
        return calls
      }
      if calls <= self.failures { throw RPCError(code: .unavailable, message: "gone") }
    }

    func prepare(request: PrepareRequest, context: ServerContext) async throws -> LoadedModel {
      try self.count()
      return LoadedModel(version: request.version)
    }

    func predict(request: ActRequest, context: ServerContext) async throws -> ActResponse {
      try self.count()
      return ActResponse()
    }

    func getStatus(
      request: GetInferenceStatusRequest, context: ServerContext
    ) async throws -> InferenceStatus { InferenceStatus() }

    func act(
      request: RPCAsyncSequence<ActRequest, any Error>, response: RPCWriter<ActResponse>,
      context: ServerContext
    ) async throws {}
  }

  private func withInference(
    _ inference: Inference,
    _ body: @Sendable (InferenceService.Client<ZeroMQClientTransport>) async throws -> Void
  ) async throws {
    let folder = try TemporaryFolder()
    let endpoint = "ipc://\(folder.path)/i"
    let transport = try ZeroMQServerTransport(bind: Endpoint(endpoint))
    try await withGRPCServer(transport: transport, services: [inference]) { _ in
      let connection = try RPCClient.connection(to: endpoint, service: "inference", keys: "")
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await connection.runConnections() }
        defer { connection.beginGracefulShutdown() }
        try await body(InferenceService.Client(wrapping: connection))
      }
    }
    withExtendedLifetime(folder) {}
  }

  @Test func `an idempotent call outlasts a restart of its server`() async throws {
    let inference = Inference(failures: 2)
    try await self.withInference(inference) { client in
      let model = try await client.prepare(PrepareRequest(version: "v1"))
      #expect(model.version == "v1")
    }
    #expect(inference.calls.withLock { $0 } == 3)
  }

  @Test func `it is given up after five times, or with its deadline`() async throws {
    let inference = Inference(failures: .max)
    try await self.withInference(inference) { client in
      let error = await #expect(throws: RPCError.self) {
        try await client.prepare(PrepareRequest(), options: .within(.milliseconds(200)))
      }
      #expect([.deadlineExceeded, .unavailable, .cancelled].contains(error?.code))
      #expect(inference.calls.withLock { $0 } < 5)
      await #expect(throws: RPCError.self) { try await client.prepare(PrepareRequest()) }
    }
    #expect((5...9).contains(inference.calls.withLock { $0 }))
  }

  @Test func `without a connection it is given up after one grace`() async throws {
    let folder = try TemporaryFolder()
    var configuration = ZeroMQClientTransport.Configuration()
    configuration.serviceConfig = .retryingIdempotentMethods
    configuration.connectionGrace = .seconds(1)
    let transport = try ZeroMQClientTransport(
      connect: Endpoint("ipc://\(folder.path)/none"), configuration: configuration)
    try await withGRPCClient(transport: transport) { connection in
      let client = InferenceService.Client(wrapping: connection)
      // Five times the grace would be over the deadline.
      let error = await #expect(throws: RPCError.self) {
        try await client.prepare(PrepareRequest(), options: .within(.seconds(4)))
      }
      #expect(error?.code == .unavailable)
    }
  }

  @Test func `a call that is not idempotent is made once`() async throws {
    let inference = Inference(failures: 1)
    try await self.withInference(inference) { client in
      let error = await #expect(throws: RPCError.self) { try await client.predict(ActRequest()) }
      #expect(error?.code == .unavailable)
    }
    #expect(inference.calls.withLock { $0 } == 1)
  }

  @Test func `the protos say which calls those are`() {
    let methods = SchemaRegistry.idempotentMethods
    #expect(methods["fleetloop.v1.IngestService"]?.contains("ListTrials") == true)
    #expect(methods["fleetloop.v1.IngestService"]?.contains("Upload") == false)
    #expect(methods["fleetloop.v1.InferenceService"] == ["Prepare", "GetStatus"])
  }
}
