public import GRPCCore
import Synchronization

/// gRPC calls over a ZeroMQ DEALER socket.
///
/// Connects in the background and again after each loss. A call that finds no connection waits for one: at most
/// ``Configuration/connectionGrace``, then it is UNAVAILABLE, or until its deadline with `waitForReady`. Calls in
/// flight when the connection is lost are UNAVAILABLE.
public final class ZeroMQClientTransport: ClientTransport {
  public typealias Bytes = ZeroMQBytes

  public struct Configuration: Sendable {
    public var limits = CallLimits()
    /// How long a call without `waitForReady` waits for a connection.
    public var connectionGrace: Duration = .seconds(5)
    /// Pause before a lost connection is tried again; doubles up to ``maxReconnectPause``.
    public var reconnectPause: Duration = .milliseconds(50)
    public var maxReconnectPause: Duration = .seconds(2)
    /// A peer that says nothing for three of these is lost.
    public var heartbeat: Duration = .seconds(2)
    /// Timeouts, retries and hedging by method.
    public var serviceConfig = ServiceConfig()

    public init() {}
  }

  private enum State {
    case idle
    case running
    /// No new calls; ends with the last.
    case draining
    case closed
  }

  private struct Lifecycle {
    var state = State.idle
    var openCalls = 0
    var nextID: UInt64 = 1
  }

  public let retryThrottle: RetryThrottle?
  /// Where the server is.
  public let endpoint: Endpoint
  private let configuration: Configuration
  private let connection: ClientConnection
  private let lifecycle = Mutex(Lifecycle())

  /// - Throws: ``BusError`` where the socket cannot be made. A server that is not there is no error.
  public init(
    connect endpoint: Endpoint, security: ClientSecurity = .none, configuration: Configuration = .init()
  ) throws {
    self.endpoint = endpoint
    self.configuration = configuration
    self.retryThrottle = configuration.serviceConfig.retryThrottling.map { RetryThrottle(policy: $0) }
    self.connection = try ClientConnection(
      endpoint: endpoint, security: security, configuration: configuration)
  }

  public func connect() async throws {
    let error: RPCError? = self.lifecycle.withLock { lifecycle in
      switch lifecycle.state {
      case .idle:
        lifecycle.state = .running
        return nil
      case .running, .draining:
        return RPCError(code: .failedPrecondition, message: "Already connected to \(self.endpoint).")
      case .closed:
        return RPCError(code: .failedPrecondition, message: "The transport to \(self.endpoint) is closed.")
      }
    }
    if let error { throw error }
    await withTaskCancellationHandler {
      await self.connection.run()
    } onCancel: {
      self.lifecycle.withLock { $0.state = .closed }
      self.connection.stop()
    }
    self.lifecycle.withLock { $0.state = .closed }
  }

  public func beginGracefulShutdown() {
    let stop = self.lifecycle.withLock { lifecycle in
      switch lifecycle.state {
      case .idle, .closed:
        lifecycle.state = .closed
        return true
      case .running, .draining:
        lifecycle.state = .draining
        return lifecycle.openCalls == 0
      }
    }
    if stop { self.connection.stop() }
  }

  public func withStream<T: Sendable>(
    descriptor: MethodDescriptor,
    options: CallOptions,
    _ closure: (RPCStream<Inbound, Outbound>, ClientContext) async throws -> T
  ) async throws -> T {
    let id: UInt64? = self.lifecycle.withLock { lifecycle in
      guard lifecycle.state == .idle || lifecycle.state == .running else { return nil }
      defer { lifecycle.nextID += 1 }
      lifecycle.openCalls += 1
      return lifecycle.nextID
    }
    guard let id else {
      throw RPCError(code: .failedPrecondition, message: "The transport to \(self.endpoint) is closed.")
    }
    defer { self.callEnded() }
    let request = ClientCallRequest(
      method: descriptor.fullyQualifiedMethod, timeout: options.timeout,
      waitsForReady: options.waitForReady ?? false,
      hasSingleResponse: descriptor.type.map { !$0.isResponseStreaming } ?? false)
    let call = self.connection.open(
      request, id: id,
      maxMessageBytes: min(options.maxRequestMessageBytes ?? .max, self.configuration.limits.maxMessageBytes))
    let writer = ClientWriter(
      call: call, sendsOneMessage: descriptor.type.map { !$0.isRequestStreaming } ?? false)
    let stream = RPCStream(
      descriptor: descriptor,
      inbound: RPCAsyncSequence(wrapping: CallParts(call: call)),
      outbound: RPCWriter.Closable(wrapping: writer))
    let context = ClientContext(
      descriptor: descriptor, remotePeer: self.endpoint.description, localPeer: "zeromq")
    // A call that is not over is not wanted any more once the closure ends.
    defer { call.cancel(RPCError(code: .cancelled, message: "The call was cancelled.")) }
    return try await closure(stream, context)
  }

  private func callEnded() {
    let stop = self.lifecycle.withLock { lifecycle in
      lifecycle.openCalls -= 1
      return lifecycle.state == .draining && lifecycle.openCalls == 0
    }
    if stop { self.connection.stop() }
  }

  public func config(forMethod descriptor: MethodDescriptor) -> MethodConfig? {
    self.configuration.serviceConfig.methodConfig(of: descriptor)
  }
}

/// Writes a call's request.
private struct ClientWriter: ClosableRPCWriterProtocol {
  typealias Element = RPCRequestPart<ZeroMQBytes>

  let call: Call<RPCResponsePart<ZeroMQBytes>>
  /// Then metadata and message travel with the end of the request, in one frame.
  let sendsOneMessage: Bool

  func write(_ element: Element) async throws {
    switch element {
    case .metadata(let metadata): try await self.call.write(.metadata(metadata), now: !self.sendsOneMessage)
    case .message(let bytes): try await self.call.write(.message(bytes), now: !self.sendsOneMessage)
    }
  }

  func write(contentsOf elements: some Sequence<Element>) async throws {
    for element in elements { try await self.write(element) }
  }

  func finish() async {
    // grpc-swift (2.4.3, BroadcastAsyncSequence.setContinuation) loses the message of a call that it may repeat where message
    // and end come between its reader's two looks. No server hears such a request: made again it has its message.
    guard !self.sendsOneMessage || self.call.hasMessageToSend else {
      return self.call.cancel(RPCError(code: .unavailable, message: "The request has lost its message."))
    }
    try? await self.call.write(.halfClose)
  }

  func finish(throwing error: any Error) async {
    self.call.cancel(
      error as? RPCError ?? RPCError(code: .cancelled, message: "The request was given up.", cause: error))
  }
}

extension ServiceConfig {
  /// The most specific configuration: of the method, its service, or all.
  func methodConfig(of descriptor: MethodDescriptor) -> MethodConfig? {
    let service = descriptor.service.fullyQualifiedService
    let names = [
      MethodConfig.Name(service: service, method: descriptor.method),
      MethodConfig.Name(service: service, method: ""),
      MethodConfig.Name(service: "", method: ""),
    ]
    for name in names {
      if let config = self.methodConfig.last(where: { $0.names.contains(name) }) { return config }
    }
    return nil
  }
}
