package import Schemas

/// What rollout asks of the fleet: closures, so that it can be tested without sockets.
package struct RolloutPeers: Sendable {
  /// Tells a robot on `releases/<robot>`; may be lost.
  package var publish: @Sendable (DesiredVersion) async -> Void
  /// Ingest's count of stored outcomes.
  package var summarize: @Sendable (SummarizeOutcomesRequest) async throws -> SummarizeOutcomesResponse
  /// Tells the monitor what to compare.
  package var watch: @Sendable (WatchReleaseRequest) async throws -> Void
  /// The monitor's open alerts.
  package var alerts: @Sendable () async throws -> [Alert]

  package init(
    publish: @escaping @Sendable (DesiredVersion) async -> Void,
    summarize: @escaping @Sendable (SummarizeOutcomesRequest) async throws -> SummarizeOutcomesResponse,
    watch: @escaping @Sendable (WatchReleaseRequest) async throws -> Void,
    alerts: @escaping @Sendable () async throws -> [Alert]
  ) {
    self.publish = publish
    self.summarize = summarize
    self.watch = watch
    self.alerts = alerts
  }
}
