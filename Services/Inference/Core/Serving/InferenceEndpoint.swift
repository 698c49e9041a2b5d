import Bus
package import GRPCCore
package import Schemas

/// InferenceService over the models.
package final class InferenceEndpoint: InferenceService.SimpleServiceProtocol {
  /// Requests of one stream that are worked on at once; further ones wait in the transport's bounded window.
  static let streamDepth = 32

  private let inference: Inference

  package init(inference: Inference) { self.inference = inference }

  package func act(
    request: RPCAsyncSequence<ActRequest, any Error>, response: RPCWriter<ActResponse>,
    context: ServerContext
  ) async throws {
    // Whose requests count together: those of a key, or of a connection where there are no keys.
    let caller = context.remotePeer
    self.inference.batcher.streamsChanged(by: 1)
    defer { self.inference.batcher.streamsChanged(by: -1) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      var running = 0
      for try await message in request {
        let arrival = ContinuousClock.now
        if running == Self.streamDepth {
          try await group.next()
          running -= 1
        }
        running += 1
        group.addTask { try await response.write(await self.answer(message, of: caller, arrival: arrival)) }
      }
      try await group.waitForAll()
    }
  }

  package func predict(request: ActRequest, context: ServerContext) async throws -> ActResponse {
    do throws(InferenceError) {
      return try await self.inference.act(request, of: context.remotePeer, arrival: .now)
    } catch {
      throw error.status
    }
  }

  package func prepare(request: PrepareRequest, context: ServerContext) async throws -> LoadedModel {
    do throws(InferenceError) {
      return try await self.inference.prepare(request.version, sha256: request.manifestSha256)
    } catch {
      throw error.status
    }
  }

  package func getStatus(
    request: GetInferenceStatusRequest, context: ServerContext
  ) async throws -> InferenceStatus { self.inference.status }

  /// An answer, whatever happens: one bad request does not end a robot's stream.
  private func answer(
    _ request: ActRequest, of caller: String, arrival: ContinuousClock.Instant
  ) async -> ActResponse {
    do throws(InferenceError) {
      return try await self.inference.act(request, of: caller, arrival: arrival)
    } catch {
      let status = error.status
      return ActResponse(
        requestID: request.requestID, modelVersion: request.modelVersion,
        code: UInt32(status.code.rawValue), message: status.message)
    }
  }
}
