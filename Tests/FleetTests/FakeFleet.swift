import Bus
import Foundation
import GRPCCore
import Schemas
import Synchronization
import TestSupport

@testable import FleetCore

/// What a double says to what no test asks of it.
private let notAsked = RPCError(code: .unimplemented, message: "nobody asks this here")

/// A robot's agent that notes what it is asked.
final class FakeRobot: RobotService.SimpleServiceProtocol {
  private let orders: [OpenOrder]
  private let state: Mutex<RobotState>
  private let unkept: String
  private let onEnqueue: @Sendable (WorkOrder) throws -> Void
  private let onStop: @Sendable () async throws -> Void
  private let onCancel: @Sendable () async throws -> Void
  private let stopping = Mutex(0)
  private let cancelling = Mutex<[String]>([])

  var stops: Int { self.stopping.withLock { $0 } }
  /// Ids that were to be cancelled.
  var cancelled: [String] { self.cancelling.withLock { $0 } }

  /// - Parameters:
  ///   - onEnqueue: gets what it is given; it refuses by throwing.
  ///   - onStop: comes before its answer to a stop, which counts already.
  ///   - onCancel: comes before its answer where orders are to be cancelled.
  init(
    orders: [OpenOrder] = [], state: RobotState = .idle, unkept: String = "",
    onEnqueue: @Sendable @escaping (WorkOrder) throws -> Void = { _ in },
    onStop: @Sendable @escaping () async throws -> Void = {},
    onCancel: @Sendable @escaping () async throws -> Void = {}
  ) {
    self.onEnqueue = onEnqueue
    self.onStop = onStop
    self.onCancel = onCancel
    self.unkept = unkept
    self.orders = orders
    self.state = Mutex(state)
  }

  func stop(request: StopRequest, context: ServerContext) async throws -> RobotStatus {
    self.stopping.withLock { $0 += 1 }
    try await self.onStop()
    return RobotStatus(heartbeat: Heartbeat(state: .stopped, stopReason: request.reason, unkept: self.unkept))
  }

  func getStatus(request: GetRobotStatusRequest, context: ServerContext) async throws -> RobotStatus {
    let state = self.state.withLock { $0 }
    return RobotStatus(heartbeat: Heartbeat(state: state), waiting: self.cancelled.isEmpty ? 1_500 : 1_000)
  }

  /// As an agent does: the first 1,000.
  func listWork(request: ListWorkRequest, context: ServerContext) async throws -> ListWorkResponse {
    ListWorkResponse(orders: Array(self.orders.prefix(1_000)), total: UInt32(self.orders.count))
  }

  func cancelWork(request: CancelWorkRequest, context: ServerContext) async throws -> RobotStatus {
    self.cancelling.withLock { $0.append(request.orderID) }
    try await self.onCancel()
    return try await self.getStatus(request: .init(), context: context)
  }

  func enqueue(request: WorkOrder, context: ServerContext) async throws -> EnqueueResponse {
    try self.onEnqueue(request)
    return EnqueueResponse(waiting: 1)
  }

  func nextWork(request: NextWorkRequest, context: ServerContext) async throws -> NextWorkResponse {
    throw notAsked
  }
  func control(
    request: RPCAsyncSequence<ControlRequest, any Error>, response: RPCWriter<ControlResponse>,
    context: ServerContext
  ) async throws { throw notAsked }
  /// Lifts a stop, and nothing else.
  func resume(request: ResumeRequest, context: ServerContext) async throws -> RobotStatus {
    let state = self.state.withLock { state in
      if state == .stopped { state = .idle }
      return state
    }
    return RobotStatus(heartbeat: Heartbeat(state: state, unkept: self.unkept))
  }

  /// What the monitor's directive does.
  /// - Returns: whether it was unhealthy.
  func hearThatItIsHealthy() -> Bool {
    self.state.withLock { state in
      guard state == .unhealthy else { return false }
      state = .idle
      return true
    }
  }
}

/// A monitor that knows what a test tells it.
final class FakeMonitor: MonitorService.SimpleServiceProtocol {
  private let robots: [String]
  private let alerts: [Alert]
  private let mayList: @Sendable () -> Bool
  private let state: @Sendable () -> RobotState
  private let onResume: @Sendable () -> Bool

  /// - Parameters:
  ///   - mayList: it names robots only once this holds.
  ///   - state: what it says of each robot, asked anew each time.
  ///   - onResume: what its directive does to a robot; says whether that was unhealthy.
  init(
    robots: [String] = [], alerts: [Alert] = [], mayList: @Sendable @escaping () -> Bool = { true },
    state: @Sendable @escaping () -> RobotState = { .idle },
    onResume: @Sendable @escaping () -> Bool = { false }
  ) {
    self.robots = robots
    self.alerts = alerts
    self.onResume = onResume
    self.mayList = mayList
    self.state = state
  }

  func listRobots(request: ListRobotsRequest, context: ServerContext) async throws -> ListRobotsResponse {
    while !self.mayList() { try await Task.sleep(for: .milliseconds(20)) }
    return ListRobotsResponse(robots: self.robots.map { RobotRow(robot: $0, state: self.state()) })
  }

  func listAlerts(request: ListAlertsRequest, context: ServerContext) async throws -> ListAlertsResponse {
    let rest = self.alerts.dropFirst(Int(request.pageToken) ?? 0)
    let page = rest.prefix(min(Int(request.pageSize), 1_000))
    return ListAlertsResponse(
      alerts: Array(page), nextPageToken: page.count < rest.count ? "\(page.endIndex)" : "")
  }

  func listServices(
    request: ListServicesRequest, context: ServerContext
  ) async throws -> ListServicesResponse { throw notAsked }
  func acknowledgeAlert(request: AcknowledgeAlertRequest, context: ServerContext) async throws -> Alert {
    throw notAsked
  }
  /// As the monitor does: no error where the robot is healthy.
  func resumeRobot(
    request: ResumeRobotRequest, context: ServerContext
  ) async throws -> ResumeRobotResponse {
    let wasUnhealthy = self.onResume()
    return ResumeRobotResponse(
      row: RobotRow(robot: request.robot, state: .idle), wasUnhealthy: wasUnhealthy)
  }
  func watchAlerts(
    request: WatchAlertsRequest, response: RPCWriter<Alert>, context: ServerContext
  ) async throws { throw notAsked }
  func watchRelease(
    request: WatchReleaseRequest, context: ServerContext
  ) async throws -> WatchReleaseResponse { throw notAsked }
  func reportSafety(
    request: ReportSafetyRequest, context: ServerContext
  ) async throws -> ReportSafetyResponse { throw notAsked }
}

/// A fleet of such peers on real sockets.
struct FakeFleet: Sendable {
  let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  /// Writes the configuration by which commands find it.
  func write(robots: [String]) throws {
    let services = self.socket("services")
    let settings = [
      "fleet": ["robots": robots.joined(separator: ","), "sockets": self.folder.path],
      "monitor": ["rpc": services], "ingest": ["rpc": services], "training": ["rpc": services],
    ]
    try JSONEncoder().encode(settings).write(to: URL(filePath: "\(self.folder.path)/config.json"))
  }

  private func socket(_ name: String) -> String { "ipc://\(self.folder.path)/\(name)" }

  /// Runs `body` with clients of them.
  /// - Parameters:
  ///   - robots: agents that answer, by name.
  ///   - configured: `fleet.robots`; nil for those.
  ///   - services: behind the sockets of monitor and ingest.
  func run<Result: Sendable>(
    robots: [String: FakeRobot], configured: String? = nil, services: [any RegistrableRPCService],
    _ body: @Sendable @escaping (FleetClients) async throws -> Result
  ) async throws -> Result {
    let addresses = RobotAddresses(
      configured ?? robots.keys.sorted().joined(separator: ","), sockets: self.folder.path)
    let endpoints = ["monitor.rpc": self.socket("services"), "ingest.rpc": self.socket("services")]
    var servers: [GRPCServer<ZeroMQServerTransport>] = []
    for (name, robot) in robots {
      servers.append(
        GRPCServer(
          transport: try ZeroMQServerTransport(bind: Endpoint(self.socket("robot-\(name)"))),
          services: [robot]))
    }
    if !services.isEmpty {
      servers.append(
        GRPCServer(
          transport: try ZeroMQServerTransport(bind: Endpoint(self.socket("services"))), services: services))
    }
    let running = servers
    return try await withThrowingTaskGroup(of: Void.self) { group in
      for server in running { group.addTask { try await server.serve() } }
      defer { for server in running { server.beginGracefulShutdown() } }
      return try await FleetClients.with(
        endpoints: endpoints, robots: addresses.endpoints, robotNames: addresses.names, body)
    }
  }
}
