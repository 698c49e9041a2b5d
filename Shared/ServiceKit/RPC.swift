public import Bus
public import GRPCCore
import Schemas
public import ServiceLifecycle

/// A gRPC server over ZeroMQ as a part of a service: binds, serves, and ends calls in flight before it ends.
///
/// The standard health service and the metrics service are always among its services; ``ServiceContext/vitals`` decide what
/// the former says.
public struct RPCServer: Service {
  /// The server's real endpoint, which matters where port 0 was asked for.
  public let endpoint: Endpoint
  private let server: GRPCServer<ZeroMQServerTransport>

  /// Binds.
  /// - Parameters:
  ///   - text: e.g. "tcp://127.0.0.1:7401".
  ///   - keys: folder of keys; empty for none, which only loopback, ipc and inproc allow.
  /// - Throws: ``Bus/BusError`` where the endpoint is malformed, taken, or leaves the machine without keys.
  public init(
    bind text: String, keys: String, context: ServiceContext, services: [any RegistrableRPCService]
  ) async throws {
    let transport = try ZeroMQServerTransport(
      bind: Endpoint(text), security: try BusSecurity.server(keys: keys))
    let served = services + [MetricsEndpoint(registry: context.metrics, vitals: context.vitals)]
    let health = HealthService(for: served)
    context.vitals.observe { health.setEveryStatus($0 ? .serving : .notServing) }
    self.server = GRPCServer(transport: transport, services: served + [health])
    self.endpoint = try await transport.boundEndpoint
  }

  public func run() async throws {
    try await withGracefulShutdownHandler {
      try await self.server.serve()
    } onGracefulShutdown: {
      self.server.beginGracefulShutdown()
    }
  }
}

/// A connection to another service as a part of a service.
public struct RPCClient: Service {
  public let client: GRPCClient<ZeroMQClientTransport>

  /// - Parameters:
  ///   - service: name under which the server's public key is authorized, e.g. "ingest".
  ///   - keys: folder of keys; empty for none.
  public init(to endpoint: String, service: String, keys: String) throws {
    self.client = try Self.connection(to: endpoint, service: service, keys: keys)
  }

  public static func connection(
    to endpoint: String, service: String, keys: String
  ) throws -> GRPCClient<ZeroMQClientTransport> {
    GRPCClient(transport: try self.transport(to: endpoint, service: service, keys: keys))
  }

  /// What a connection goes over, for `withGRPCClient`.
  public static func transport(
    to endpoint: String, service: String, keys: String
  ) throws -> ZeroMQClientTransport {
    var configuration = ZeroMQClientTransport.Configuration()
    configuration.serviceConfig = .retryingIdempotentMethods
    return try ZeroMQClientTransport(
      connect: Endpoint(endpoint), security: try BusSecurity.client(of: service, keys: keys),
      configuration: configuration)
  }

  public func run() async throws {
    try await withGracefulShutdownHandler {
      try await self.client.runConnections()
    } onGracefulShutdown: {
      self.client.beginGracefulShutdown()
    }
  }
}

extension CallOptions {
  /// The defaults with a deadline.
  public static func within(_ timeout: Duration) -> CallOptions {
    var options = CallOptions.defaults
    options.timeout = timeout
    return options
  }
}
