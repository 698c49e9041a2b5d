import Bus
import GRPCCore
import Logging
import Schemas
import ServiceLifecycle
import TestSupport
import Testing

@testable import ServiceKit

@Suite("Health of services", .timeLimit(.minutes(5)))
struct HealthTests {
  private struct Inference: InferenceService.SimpleServiceProtocol {
    func prepare(request: PrepareRequest, context: ServerContext) async throws -> LoadedModel {
      LoadedModel()
    }
    func predict(request: ActRequest, context: ServerContext) async throws -> ActResponse { ActResponse() }
    func getStatus(
      request: GetInferenceStatusRequest, context: ServerContext
    ) async throws -> InferenceStatus { InferenceStatus() }
    func act(
      request: RPCAsyncSequence<ActRequest, any Error>, response: RPCWriter<ActResponse>,
      context: ServerContext
    ) async throws {}
  }

  @Test func `each service that is served answers by its name, and no other`() async throws {
    let folder = try TemporaryFolder()
    let context = ServiceContext(
      name: "inference", configuration: try ServiceConfiguration(service: "inference", known: []),
      logger: Logger(label: "test"), metrics: MetricsRegistry(),
      vitals: Vitals())
    let server = try await RPCServer(
      bind: "ipc://\(folder.path)/i", keys: "", context: context, services: [Inference()])
    let serving = Task { try await server.run() }
    defer { serving.cancel() }
    let connection = try RPCClient.connection(
      to: server.endpoint.description, service: "inference", keys: "")
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await connection.runConnections() }
      defer { connection.beginGracefulShutdown() }
      let health = Health.Client(wrapping: connection)
      for name in [
        "", "fleetloop.v1.InferenceService", "fleetloop.v1.MetricsService", "grpc.health.v1.Health",
      ] {
        let answer = try await health.check(
          HealthCheckRequest(service: name), options: .within(.seconds(30)))
        #expect(answer.status == .serving, "\(name)")
      }
      let error = await #expect(throws: RPCError.self) {
        try await health.check(HealthCheckRequest(service: "no.Such"), options: .within(.seconds(30)))
      }
      #expect(error?.code == .notFound)
      // A part without which it cannot work is broken: all of it says so, and one may ask why.
      context.vitals.fail("model", "no such file")
      for name in ["", "fleetloop.v1.InferenceService"] {
        let answer = try await health.check(
          HealthCheckRequest(service: name), options: .within(.seconds(30)))
        #expect(answer.status == .notServing, "\(name)")
      }
      let metrics = MetricsService.Client(wrapping: connection)
      let parts = try await metrics.getMetrics(.init(), options: .within(.seconds(30))).brokenParts
      #expect(parts == [BrokenPart(part: "model", reason: "no such file")])
      context.vitals.recover("model")
      #expect(try await health.check(.init(), options: .within(.seconds(30))).status == .serving)
    }
  }
}
