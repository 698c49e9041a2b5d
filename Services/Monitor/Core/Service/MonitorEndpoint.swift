package import GRPCCore
package import Schemas

/// MonitorService over the state.
package struct MonitorEndpoint: MonitorService.SimpleServiceProtocol {
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
    let alerts = await self.monitor.snapshot.alerts.list(includeResolved: request.includeResolved)
    return ListAlertsResponse(alerts: Array(alerts.prefix(1_000)))
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
  ) async throws -> RobotRow {
    try await Status.of {
      try await self.monitor.change { state, now, _ throws(MonitorError) in
        try state.resume(request.robot, by: request.by, now: now)
      }
      return await self.monitor.rows.first { $0.robot == request.robot } ?? RobotRow(robot: request.robot)
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

  package func watchRelease(
    request: WatchReleaseRequest, context: ServerContext
  ) async throws -> WatchReleaseResponse {
    try await Status.of {
      try await self.monitor.change { state, now, _ throws(MonitorError) in
        try state.watch(request, now: now)
      }
      return WatchReleaseResponse()
    }
  }
}
