public import GRPCCore
import Synchronization

/// Serves gRPC calls on a ZeroMQ ROUTER socket: to this module's client, and to any program that speaks `proto/BUS.md`.
public final class ZeroMQServerTransport: ServerTransport {
  public typealias Bytes = ZeroMQBytes

  public struct Configuration: Sendable {
    public var limits = CallLimits()
    /// After a graceful shutdown began, calls have this long to end.
    public var gracePeriod: Duration = .seconds(5)
    /// A peer that says nothing for three of these is lost, and its calls are cancelled.
    public var heartbeat: Duration = .seconds(2)
    /// Which role may call which method; used where there are keys.
    public var policy = AccessPolicy.fleet
    /// Methods that get in and run whatever else is open: see ``CallLimits/reservedCalls``. Short unary ones.
    public var priorityMethods = AccessPolicy.priorityMethods

    public init() {}
  }

  private let endpoint: Endpoint
  private let connection: ServerConnection
  private let isListening = Atomic<Bool>(false)

  /// Binds. Calls are accepted from ``listen(streamHandler:)`` on; earlier ones wait.
  /// - Throws: ``BusError`` where the endpoint is taken, not of this machine, or open to others without keys.
  public init(
    bind endpoint: Endpoint, security: ServerSecurity = .none, configuration: Configuration = .init()
  ) throws {
    self.connection = try ServerConnection(
      endpoint: endpoint, security: security, configuration: configuration)
    self.endpoint = self.connection.endpoint
  }

  /// What is open and held now.
  public var load: ServerLoad { self.connection.load }

  /// Calls that were turned down for lack of room since the start.
  var rejectedCalls: Int { self.connection.rejectedCalls }

  /// Where the socket is bound, with its real port.
  public var boundEndpoint: Endpoint { get async throws { self.endpoint } }

  public func listen(
    streamHandler: @escaping @Sendable (RPCStream<Inbound, Outbound>, ServerContext) async -> Void
  ) async throws {
    guard !self.isListening.exchange(true, ordering: .sequentiallyConsistent) else {
      throw RPCError(code: .failedPrecondition, message: "The transport at \(self.endpoint) listens already.")
    }
    await withTaskCancellationHandler {
      await self.connection.run(streamHandler)
    } onCancel: {
      self.connection.shutDown(gracefully: false)
    }
  }

  public func beginGracefulShutdown() { self.connection.shutDown(gracefully: true) }
}

/// What calls take of a server at one moment.
public struct ServerLoad: Sendable, Hashable {
  /// Calls whose handlers have not returned.
  public var openCalls: Int
  /// Bytes of messages that peers have not read, as far as they did not leave the process.
  public var queuedBytes: Int
  /// Bytes of messages that handlers have not dealt with.
  public var unreadBytes: Int
}
