package import Artifacts
import GRPCCore
package import Schemas

/// Where models come from: closures, so that it can be tested without a registry.
package struct ModelSource: Sendable {
  /// Longest time that one model may take to come.
  package static let transferTimeout: Duration = .seconds(60)
  /// Longest time that the list of models may take to come.
  package static let callTimeout: Duration = .seconds(10)

  /// Hands over each chunk of a model.
  package var fetch: ArtifactSource
  /// Every registered model, oldest first.
  package var list: @Sendable () async throws -> [ModelManifest]

  package init(
    fetch: @escaping ArtifactSource,
    list: @escaping @Sendable () async throws -> [ModelManifest]
  ) {
    self.fetch = fetch
    self.list = list
  }

  /// The registry that rollout serves.
  package init(registry: some ModelRegistryService.ClientProtocol) {
    self.init(
      fetch: { request, take in
        try await registry.getModel(request, options: Self.within(Self.transferTimeout)) { response in
          for try await chunk in response.messages { try await take(chunk) }
        }
      },
      list: {
        try await registry.listModels(ListModelsRequest(), options: Self.within(Self.callTimeout)).models
      })
  }

  private static func within(_ timeout: Duration) -> CallOptions {
    var options = CallOptions.defaults
    options.timeout = timeout
    return options
  }
}
