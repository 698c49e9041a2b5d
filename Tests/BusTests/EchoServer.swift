@testable import Bus
import GRPCCore

/// A server of the echo service.
struct EchoGRPCServer: Sendable {
  private let server: GRPCServer<ZeroMQServerTransport>

  init(transport: ZeroMQServerTransport, log: EchoLog) {
    let echo = EchoService(log: log)
    self.server = GRPCServer(transport: transport, services: [echo, HealthService(for: [echo])])
  }

  func serve() async throws { try await self.server.serve() }
  func beginGracefulShutdown() { self.server.beginGracefulShutdown() }
}

/// Runs a client around a test's body.
func withClient(
  _ endpoint: Endpoint, security: ClientSecurity = .none,
  configuration: ZeroMQClientTransport.Configuration = .patient,
  _ body: @escaping @Sendable (any EchoClient) async throws -> Void
) async throws {
  let transport = try ZeroMQClientTransport(
    connect: endpoint, security: security, configuration: configuration)
  try await withGRPCClient(transport: transport) { try await body($0) }
}

extension ZeroMQClientTransport.Configuration {
  /// A busy machine may take seconds for a handshake.
  static var patient: Self {
    var configuration = Self()
    configuration.connectionGrace = .seconds(30)
    return configuration
  }
}

extension CallOptions {
  static var brief: CallOptions {
    var options = CallOptions.defaults
    options.timeout = .seconds(1)
    return options
  }

  static var waiting: CallOptions {
    var options = CallOptions.defaults
    options.waitForReady = true
    options.timeout = .seconds(20)
    return options
  }
}

/// A server of the echo service that a test starts and stops.
struct EchoServer {
  let endpoint: Endpoint
  let log = EchoLog()
  private let transport: ZeroMQServerTransport
  private let task: Task<Void, any Error>
  private let server: EchoGRPCServer
  var load: ServerLoad { self.transport.load }
  var rejectedCalls: Int { self.transport.rejectedCalls }

  init(
    at endpoint: Endpoint? = nil, security: ServerSecurity = .none,
    configuration: ZeroMQServerTransport.Configuration = .init()
  ) async throws {
    try await self.init(
      ZeroMQServerTransport(
        bind: endpoint ?? Endpoint("tcp://127.0.0.1:*"), security: security, configuration: configuration))
  }

  /// Serves what is bound already.
  init(_ transport: ZeroMQServerTransport) async throws {
    self.endpoint = try await transport.boundEndpoint
    self.transport = transport
    let server = EchoGRPCServer(transport: transport, log: self.log)
    self.server = server
    self.task = Task { try await server.serve() }
  }

  /// Stops abruptly.
  func stop() async {
    self.task.cancel()
    _ = try? await self.task.value
  }

  /// Lets calls end.
  func shutDown() async throws {
    self.server.beginGracefulShutdown()
    try await self.task.value
  }
}
