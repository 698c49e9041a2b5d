import Bus
package import GRPCCore
package import Schemas

/// MonitorService over the state.
package struct MonitorEndpoint: MonitorService.SimpleServiceProtocol {
  private static let maximumPage = 1_000

  private let monitor: Monitor

  package init(monitor: Monitor) { self.monitor = monitor }

  package func listRobots(
    request: ListRobotsRequest, context: ServerContext
  ) async throws -> ListRobotsResponse {
    ListRobotsResponse(robots: await self.monitor.rows)
  }

  package func listAlerts(
    request: ListAlertsRequest, context: ServerContext
  ) async throws -> ListAlertsResponse {
    try await Status.of {
      let size = request.pageSize == 0 ? Self.maximumPage : min(Int(request.pageSize), Self.maximumPage)
      let page = try await self.monitor.snapshot.alerts.page(
        includeResolved: request.includeResolved, size: size, token: request.pageToken)
      return ListAlertsResponse(alerts: page.alerts, nextPageToken: page.next)
    }
  }

  package func listServices(
    request: ListServicesRequest, context: ServerContext
  ) async throws -> ListServicesResponse {
    ListServicesResponse(services: await self.monitor.services)
  }

  package func acknowledgeAlert(
    request: AcknowledgeAlertRequest, context: ServerContext
  ) async throws -> Alert {
    try await Status.of {
      try await self.monitor.change { state, _, _ throws(MonitorError) in
        try state.alerts.acknowledge(request.alertID, by: request.by)
      }
    }
  }

  package func resumeRobot(
    request: ResumeRobotRequest, context: ServerContext
  ) async throws -> ResumeRobotResponse {
    try await Status.of {
      let wasUnhealthy = try await self.monitor.change { state, now, _ throws(MonitorError) in
        try state.resume(request.robot, by: request.by, reason: request.reason, now: now)
      }
      return ResumeRobotResponse(
        row: await self.monitor.rows.first { $0.robot == request.robot }, wasUnhealthy: wasUnhealthy)
    }
  }

  package func watchAlerts(
    request: WatchAlertsRequest, response: RPCWriter<Alert>, context: ServerContext
  ) async throws {
    try await Status.of {
      let (id, alerts) = try await self.monitor.watchAlerts()
      do {
        for await alert in alerts { try await response.write(alert) }
      } catch {
        await self.monitor.stopWatching(id)
        throw error
      }
      await self.monitor.stopWatching(id)
    }
  }

  package func reportSafety(
    request: ReportSafetyRequest, context: ServerContext
  ) async throws -> ReportSafetyResponse {
    // A robot speaks for itself only, as it does on its topic.
    if let caller = context.peerIdentity, caller.role == .robot, caller.name != request.robot {
      throw RPCError(
        code: .permissionDenied,
        message:
          "\(caller.name) may not report for '\(request.robot.prefix(64))'; a robot reports for itself.")
    }
    return try await Status.of { ReportSafetyResponse(number: try await self.monitor.hear(request)) }
  }

  package func watchRelease(
    request: WatchReleaseRequest, context: ServerContext
  ) async throws -> WatchReleaseResponse {
    try await Status.of {
      try await self.monitor.hear(request)
      return WatchReleaseResponse()
    }
  }
}
