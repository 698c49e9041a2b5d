import GRPCCore
import GRPCInProcessTransport
import Schemas
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// Answers by the task's name: "slow" never, "hang" never again on its stream, "refused" with an error, "other" as another version.
struct InferenceStub: InferenceService.SimpleServiceProtocol {
  let budgets = Box<[UInt64]>([])
  let streams = Box(0)
  /// Content that each request named.
  let contents = Box<[[UInt8]]>([])

  final class Box<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
  }

  func act(
    request: RPCAsyncSequence<ActRequest, any Error>, response: RPCWriter<ActResponse>, context: ServerContext
  ) async throws {
    self.streams.value.withLock { $0 += 1 }
    var hangs = false
    for try await request in request {
      hangs = hangs || request.observation?.task == "hang"
      if hangs { continue }
      self.budgets.value.withLock { $0.append(request.budgetMicros) }
      self.contents.value.withLock { $0.append(request.manifestSha256) }
      var answer = ActResponse(
        requestID: request.requestID, actions: [1, 0, 0, 0], modelVersion: request.modelVersion)
      switch request.observation?.task {
      case "slow": continue
      case "refused": answer.code = 5
      case "other": answer.modelVersion = "v0"
      case "broken": throw RPCError(code: .internalError, message: "broken")
      default: break
      }
      try await response.write(answer)
    }
  }

  func predict(request: ActRequest, context: ServerContext) async throws -> ActResponse { ActResponse() }
  func prepare(request: PrepareRequest, context: ServerContext) async throws -> LoadedModel { LoadedModel() }
  func getStatus(
    request: GetInferenceStatusRequest, context: ServerContext
  ) async throws -> InferenceStatus { InferenceStatus() }
}

extension RemotePolicy {
  fileprivate func act(_ observation: Observation, budget: Duration) async -> ActResponse? {
    await self.act(observation, version: "v1", sha256: [], budget: budget)
  }
}

@Suite struct InferenceStreamTests {
  private let service = InferenceStub()

  private func withStream(
    patience: Duration = .seconds(10), _ body: @Sendable @escaping (InferenceStream) async throws -> Void
  ) async throws {
    let transport = InProcessTransport()
    let server = GRPCServer(transport: transport.server, services: [self.service])
    try await withGRPCClient(transport: transport.client) { client in
      try await withThrowingTaskGroup(of: Void.self) { group in
        let stream = InferenceStream(patience: patience)
        group.addTask { try await server.serve() }
        group.addTask { await stream.run(InferenceService.Client(wrapping: client)) }
        try await eventually("the stream is open") {
          await stream.act(Observation(task: "t"), budget: .milliseconds(500)) != nil
        }
        try await body(stream)
        group.cancelAll()
        server.beginGracefulShutdown()
      }
    }
  }

  @Test func answersManyAtOnce() async throws {
    try await self.withStream { stream in
      for _ in 0..<100 {
        let answer = await stream.act(Observation(task: "t"), budget: .seconds(20))
        #expect(answer?.actions == [1, 0, 0, 0])
      }
    }
    #expect(self.service.budgets.value.withLock { $0.last } == 20_000_000)
  }

  @Test(arguments: ["slow", "refused", "other"]) func givesUpOnWhatIsNoAnswer(task: String) async throws {
    try await self.withStream { stream in
      #expect(await stream.act(Observation(task: task), budget: .milliseconds(50)) == nil)
      let next = await stream.act(Observation(task: "t"), budget: .seconds(20))
      #expect(next != nil, "one bad answer does not end the stream")
    }
  }

  @Test func opensTheStreamAgain() async throws {
    try await self.withStream { stream in
      #expect(await stream.act(Observation(task: "broken"), budget: .milliseconds(50)) == nil)
      try await eventually("the stream is open again") {
        await stream.act(Observation(task: "t"), budget: .milliseconds(200)) != nil
      }
    }
  }

  @Test func `a stream that falls silent is given up for a new one, one without requests is not`()
    async throws
  {
    try await self.withStream(patience: .milliseconds(300)) { stream in
      #expect(self.service.streams.value.withLock { $0 } == 1)
      try await Task.sleep(for: .milliseconds(900))
      #expect(await stream.act(Observation(task: "t"), budget: .seconds(20)) != nil)
      #expect(self.service.streams.value.withLock { $0 } == 1, "nobody waited for anything")
      #expect(await stream.act(Observation(task: "hang"), budget: .milliseconds(20)) == nil)
      try await eventually("another stream answers") {
        await stream.act(Observation(task: "t"), budget: .milliseconds(200)) != nil
      }
      #expect(self.service.streams.value.withLock { $0 } == 2)
    }
  }

  @Test func hasNoAnswerWithoutAStream() async {
    let stream = InferenceStream()
    #expect(await stream.act(Observation(task: "t"), budget: .seconds(60)) == nil)
  }
}
