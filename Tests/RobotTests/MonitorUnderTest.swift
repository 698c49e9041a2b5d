import Bus
import GRPCCore
import Logging
import MonitorCore
import Schemas
import ServiceKit
import Synchronization
import TestSupport

/// The monitor itself, behind its socket for calls, over a folder that outlives it.
final class MonitorUnderTest: Sendable {
  private let folder: TemporaryFolder
  private let losing = Mutex(false)

  init() throws { self.folder = try TemporaryFolder() }

  /// Whether the answers to robots' reports get lost on their way.
  var losesAnswers: Bool {
    get { self.losing.withLock { $0 } }
    set { self.losing.withLock { $0 = newValue } }
  }

  /// A life of the monitor, from its start to its end.
  func serve<Result: Sendable>(
    on sockets: Sockets, _ body: @Sendable @escaping (Monitor) async throws -> Result
  ) async throws -> Result {
    let monitor = try Monitor(
      store: MonitorStore(folder: self.folder.path), metrics: MetricsRegistry(), vitals: ServiceKit.Vitals(),
      logger: Logger(label: "monitor") { _ in SwiftLogNoOpLogHandler() })
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: sockets.endpoint("monitor.rpc")),
      services: [MonitorEndpoint(monitor: monitor)], interceptors: [LosingAnswers(of: self)])
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      defer { server.beginGracefulShutdown() }
      return try await body(monitor)
    }
  }
}

extension Monitor {
  /// Every alert that there ever was.
  var alerts: [Alert] { self.snapshot.alerts.list(includeResolved: true) }
}

private struct LosingAnswers: ServerInterceptor {
  private let monitor: MonitorUnderTest

  init(of monitor: MonitorUnderTest) { self.monitor = monitor }

  func intercept<Input: Sendable, Output: Sendable>(
    request: StreamingServerRequest<Input>, context: ServerContext,
    next:
      @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<
        Output
      >
  ) async throws -> StreamingServerResponse<Output> {
    let answer = try await next(request, context)
    guard !self.monitor.losesAnswers else { throw RPCError(code: .unavailable, message: "lost") }
    return answer
  }
}
