public import GRPCCore
public import Schemas
import Synchronization

/// The standard health service, grpc.health.v1: the server and each of its services are serving, unless it is told otherwise.
public final class HealthService: Health.SimpleServiceProtocol {
  private struct State {
    var statuses: [String: HealthCheckResponse.ServingStatus] = ["": .serving]
    var watchers:
      [UInt64: (service: String, changes: AsyncStream<HealthCheckResponse.ServingStatus>.Continuation)] =
        [:]
    var nextWatcher: UInt64 = 0
  }
  private let state = Mutex(State())

  /// - Parameter services: whose health may be asked by name, beside the server's as a whole and this service's own.
  public init(for services: [any RegistrableRPCService] = []) {
    var router = RPCRouter<ZeroMQServerTransport>()
    for service in services { service.registerMethods(with: &router) }
    let names =
      router.methods.map(\.service.fullyQualifiedService) + [Health.descriptor.fullyQualifiedService]
    self.state.withLock { state in for name in names { state.statuses[name] = .serving } }
  }

  /// - Parameter service: full name; empty for the server as a whole.
  public func setStatus(_ status: HealthCheckResponse.ServingStatus, for service: String = "") {
    self.state.withLock { state in
      state.statuses[service] = status
      for watcher in state.watchers.values where watcher.service == service { watcher.changes.yield(status) }
    }
  }

  /// Sets the server's as a whole and every service's.
  public func setEveryStatus(_ status: HealthCheckResponse.ServingStatus) {
    for service in self.state.withLock({ Array($0.statuses.keys) }) { self.setStatus(status, for: service) }
  }

  public func check(request: HealthCheckRequest, context: ServerContext) async throws -> HealthCheckResponse {
    guard let status = self.state.withLock({ $0.statuses[request.service] }) else {
      throw RPCError(code: .notFound, message: "There is no status of service \"\(request.service)\".")
    }
    return HealthCheckResponse(status: status)
  }

  public func watch(
    request: HealthCheckRequest, response: RPCWriter<HealthCheckResponse>, context: ServerContext
  ) async throws {
    // A watcher that is slow gets the newest status, not each.
    let (changes, continuation) = AsyncStream.makeStream(
      of: HealthCheckResponse.ServingStatus.self, bufferingPolicy: .bufferingNewest(1))
    let id = self.state.withLock { state in
      defer { state.nextWatcher += 1 }
      state.watchers[state.nextWatcher] = (request.service, continuation)
      continuation.yield(state.statuses[request.service] ?? .serviceUnknown)
      return state.nextWatcher
    }
    defer { self.state.withLock { $0.watchers[id] = nil } }
    try await withRPCCancellationHandler {
      var last: HealthCheckResponse.ServingStatus?
      for await status in changes where status != last {
        last = status
        try await response.write(HealthCheckResponse(status: status))
      }
    } onCancelRPC: {
      continuation.finish()
    }
  }
}
