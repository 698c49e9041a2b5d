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

  /// Pages of alerts at most: more than a monitor keeps.
  static let mostPages = 100

  /// Every open alert, page by page: a bad release makes robots fail, and their newer alerts come before its own.
  static func allAlerts(
    _ list: (ListAlertsRequest) async throws -> ListAlertsResponse
  ) async throws -> [Alert] {
    var (alerts, token): ([Alert], String) = ([], "")
    for _ in 0..<Self.mostPages {
      let page = try await list(ListAlertsRequest(pageToken: token))
      alerts += page.alerts
      token = page.nextPageToken
      if token.isEmpty { break }
    }
    return alerts
  }
}
