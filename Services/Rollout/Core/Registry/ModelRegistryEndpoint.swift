import Artifacts
package import GRPCCore
package import Schemas

/// ModelRegistryService over the registry.
package struct ModelRegistryEndpoint: ModelRegistryService.SimpleServiceProtocol {
  private let registry: ModelRegistry
  private let check: @Sendable (_ version: String, _ manifest: String) async throws -> Void

  /// - Parameter check: throws where a version must not get this content, although the registry does not have it; the SHA-256 of
  ///   its manifest in hex.
  package init(
    registry: ModelRegistry,
    check: @escaping @Sendable (_ version: String, _ manifest: String) async throws -> Void
  ) {
    self.registry = registry
    self.check = check
  }

  package func registerModel(
    request: RPCAsyncSequence<ModelChunk, any Error>, context: ServerContext
  ) async throws -> RegisterModelResponse {
    try await Status.of {
      let upload = try await self.registry.begin()
      do {
        for try await chunk in request {
          try await self.registry.receive(chunk, of: upload)
          if case .manifest(let signed) = chunk.part {
            try await self.check(ManifestRules.decode(signed).version, Digest.hex(signed.sha256))
          }
        }
        return try await self.registry.finish(upload)
      } catch {
        await self.registry.abandon(upload)
        throw error
      }
    }
  }

  package func getModel(
    request: GetModelRequest, response: RPCWriter<ModelChunk>, context: ServerContext
  ) async throws {
    try await Status.of {
      let download = try await self.registry.open(request)
      do {
        // The writer waits for credit: a slow robot slows this down and fills no memory.
        while let chunk = try await self.registry.next(download) { try await response.write(chunk) }
      } catch {
        await self.registry.end(download)
        throw error
      }
      await self.registry.end(download)
    }
  }

  package func listModels(
    request: ListModelsRequest, context: ServerContext
  ) async throws -> ListModelsResponse {
    try await Status.of { ListModelsResponse(models: try await self.registry.manifests()) }
  }
}
