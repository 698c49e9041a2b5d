import Schemas
import ServiceKit

extension FleetClients {
  /// Alerts, the most severe first, then the newest, page by page.
  /// - Parameters:
  ///   - limit: at most so many.
  ///   - time: for all pages together.
  /// - Returns: them, and whether there are more.
  /// - Throws: `RPCError`, `.deadlineExceeded` where the monitor takes longer.
  func alerts(
    includeResolved: Bool, atMost limit: Int, within time: Duration
  ) async throws -> (alerts: [Alert], areMore: Bool) {
    let end = ContinuousClock.now + time
    var (alerts, token): ([Alert], String) = ([], "")
    repeat {
      let request = ListAlertsRequest(
        includeResolved: includeResolved, pageSize: UInt32(clamping: min(1_000, limit - alerts.count)),
        pageToken: token)
      let page = try await self.monitor.listAlerts(
        request, options: .within(max(.milliseconds(1), end - .now)))
      alerts += page.alerts
      token = page.nextPageToken
    } while !token.isEmpty && alerts.count < limit
    return (alerts, !token.isEmpty)
  }
}
