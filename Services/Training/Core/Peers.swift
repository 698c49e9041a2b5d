internal import GRPCCore
package import Schemas
internal import ServiceKit

/// Whom training asks: ingest for trials, rollout for models.
package struct Peers: Sendable {
  /// Longest time that a call may take which moves no data.
  static let callTimeout: Duration = .seconds(30)
  /// Longest time for reading a dataset or moving a model.
  static let transferTimeout: Duration = .seconds(3_600)

  let ingest: any IngestService.ClientProtocol
  let registry: any ModelRegistryService.ClientProtocol

  package init(ingest: any IngestService.ClientProtocol, registry: any ModelRegistryService.ClientProtocol) {
    self.ingest = ingest
    self.registry = registry
  }

  // MARK: Trials

  /// A fixed set of trials. Quarantined trials are never in it, whatever the query says.
  func snapshot(of query: TrialQuery) async throws -> DatasetSnapshot {
    var query = query
    query.trainableOnly = true
    query.includeQuarantined = false
    return try await self.ingest.createSnapshot(
      CreateSnapshotRequest(query: query), options: .within(Self.callTimeout))
  }

  /// Hands every event of a snapshot's trials to `body`, trial by trial.
  func readTrials(
    of snapshot: String, _ body: @escaping @Sendable (TrialEvent) async throws -> Void
  ) async throws {
    try await self.ingest.readTrials(
      ReadTrialsRequest(snapshotID: snapshot), options: .within(Self.transferTimeout)
    ) { response in
      for try await event in response.messages { try await body(event) }
    }
  }

  // MARK: Models

  func models() async throws -> [ModelManifest] {
    try await self.registry.listModels(ListModelsRequest(), options: .within(Self.callTimeout)).models
  }

  /// Hands over each chunk of a model.
  @Sendable func fetch(
    _ request: GetModelRequest, _ take: @escaping @Sendable (ModelChunk) async throws -> Void
  ) async throws {
    try await self.registry.getModel(request, options: .within(Self.transferTimeout)) { response in
      for try await chunk in response.messages { try await take(chunk) }
    }
  }

  func register(
    _ chunks: @escaping @Sendable (RPCWriter<ModelChunk>) async throws -> Void
  ) async throws -> RegisterModelResponse {
    try await self.registry.registerModel(
      options: .within(Self.transferTimeout), requestProducer: chunks)
  }
}
