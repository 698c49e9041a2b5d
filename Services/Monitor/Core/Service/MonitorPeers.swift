package import Schemas

/// What the monitor asks of the fleet: closures, so that it can be tested without sockets.
package struct MonitorPeers: Sendable {
  /// Tells everybody on `alerts/<severity>`; may be lost.
  package var publishAlert: @Sendable (Alert) async -> Void
  /// Tells a robot on `health/<robot>`; may be lost.
  package var publishDirective: @Sendable (HealthDirective) async -> Void
  /// Ingest's counts.
  package var summarize: @Sendable (TrialQuery) async throws -> [OutcomeCount]
  /// Ingest's trials, page by page.
  package var listTrials: @Sendable (ListTrialsRequest) async throws -> ListTrialsResponse
  /// What ingest found damaged in its log.
  package var listDamages: @Sendable () async throws -> [LogDamage] = { [] }
  /// Releases, experiments and models, for the status page.
  package var describeRollout: @Sendable () async throws -> RolloutDescription
  /// Every other service's metrics, also of those that do not answer.
  package var gatherMetrics: @Sendable () async -> [ServiceMetrics] = { [] }
  /// Services by name, each with a question about its health that ends within its own deadline.
  package var health: [String: @Sendable () async -> HealthAnswer] = [:]

  package init(
    publishAlert: @escaping @Sendable (Alert) async -> Void,
    publishDirective: @escaping @Sendable (HealthDirective) async -> Void,
    summarize: @escaping @Sendable (TrialQuery) async throws -> [OutcomeCount],
    listTrials: @escaping @Sendable (ListTrialsRequest) async throws -> ListTrialsResponse,
    describeRollout: @escaping @Sendable () async throws -> RolloutDescription
  ) {
    self.publishAlert = publishAlert
    self.publishDirective = publishDirective
    self.summarize = summarize
    self.listTrials = listTrials
    self.describeRollout = describeRollout
  }
}

/// What rollout says of itself.
package struct RolloutDescription: Sendable, Hashable {
  package var releases: [Release] = []
  package var experiments: [Experiment] = []
  package var models: [ModelManifest] = []

  package init(releases: [Release] = [], experiments: [Experiment] = [], models: [ModelManifest] = []) {
    self.releases = releases
    self.experiments = experiments
    self.models = models
  }
}
