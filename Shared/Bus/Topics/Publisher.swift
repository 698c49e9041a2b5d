public import Schemas

/// How a topic socket meets its peers.
public enum Attachment: Sendable, Hashable {
  case bind(Endpoint)
  case connect([Endpoint])

  var isolated: Bool {
    switch self {
    case .bind(let endpoint): endpoint.transport != .inproc
    // inproc peers meet only in the shared context.
    case .connect(let endpoints): !endpoints.contains { $0.transport == .inproc }
    }
  }
}

/// Publishes messages on topics, in order, each with a sequence number of its topic.
///
/// A message reaches the subscribers that are connected; what must not be lost is recovered by its owner. Who binds waits for
/// nobody: a subscriber that is full misses messages, and sees the gap. Who connects, a robot to its service, waits for
/// room in ``publish(_:to:)`` and then drops, and says so.
public final class Publisher: Sendable {
  public struct Configuration: Sendable, Hashable {
    /// Messages that may wait for ZeroMQ, and in it for the service that the publisher connects to. Where it binds, as many
    /// at once reach every subscriber that gets on, if the largest of them take no more than 32 MiB; 64 MiB may wait for one.
    public var queuedMessages = 1000
    /// Bytes that may wait for ZeroMQ.
    public var queuedBytes = 64 << 20
    /// Bytes of the largest message; nil: 32 KiB where it binds, 4 MiB where it connects.
    public var maxMessageBytes: Int?
    /// How long ``Publisher/publish(_:to:)`` waits for room before it drops the message.
    public var patience: Duration = .seconds(1)
    public var reconnectPause: Duration = .milliseconds(50)
    public var maxReconnectPause: Duration = .seconds(2)
    public var heartbeat: Duration = .seconds(2)
    /// Topics that a peer (a key; without keys a connection) may subscribe to, and their bytes; who goes beyond has its
    /// connection ended.
    public var maxSubscriptionsPerPeer = 1000
    public var maxSubscribedBytesPerPeer = 64 << 10
    /// And all peers.
    public var maxSubscriptions = 65_536
    public var maxSubscribedBytes = 4 << 20

    public init() {}

    func maxMessageBytes(_ attachment: Attachment) -> Int {
      if let maxMessageBytes { return maxMessageBytes }
      return if case .bind = attachment { SocketLimits.boundTopicMessage } else { SocketLimits.topicMessage }
    }
  }

  private let connection: PublisherConnection
  private let endpoint: Endpoint?

  /// Binds or connects.
  /// - Parameters:
  ///   - identity: the publisher's name; with keys, a robot's must be its key's.
  ///   - security: keys; of a server where it binds, of a client where it connects.
  public convenience init(
    _ attachment: Attachment, identity: String, security: TopicSecurity = .none,
    configuration: Configuration = .init()
  ) throws {
    try self.init(
      PublisherConnection(
        attachment, identity: identity, security: security, configuration: configuration))
  }

  /// Binds with a server's keys.
  @_disfavoredOverload
  public convenience init(
    _ attachment: Attachment, identity: String, security: ServerSecurity,
    configuration: Configuration = .init()
  ) throws {
    try self.init(
      attachment, identity: identity, security: TopicSecurity.server(security), configuration: configuration)
  }

  /// Connects with a client's keys.
  @_disfavoredOverload
  public convenience init(
    _ attachment: Attachment, identity: String, security: ClientSecurity,
    configuration: Configuration = .init()
  ) throws {
    try self.init(
      attachment, identity: identity, security: TopicSecurity.client(security), configuration: configuration)
  }

  private init(_ connection: PublisherConnection) throws {
    self.connection = connection
    self.endpoint = connection.endpoint
    connection.start()
  }

  deinit { self.connection.stop() }

  /// Where it is bound, with the real port.
  /// - Throws: ``BusError`` where it connects instead.
  public var boundEndpoint: Endpoint {
    get async throws {
      guard let endpoint else {
        throw BusError(.endpointUnavailable, "The publisher connects; it is not bound.")
      }
      return endpoint
    }
  }

  /// Publishes a message; returns when ZeroMQ has it or it waits in the queue.
  /// - Throws: ``BusError``: `dropped` where the queue stayed full, `tooLarge`, `invalidTopic`, `closed`.
  public func publish(_ message: some ProtobufMessage, to topic: Topic) async throws {
    let payload = message.withEncoder { encoder in
      ZeroMQBytes(uninitializedCount: encoder.size) { encoder.write(to: $0) }
    }
    try await self.publish(bytes: payload, to: topic)
  }

  /// Publishes bytes as they are.
  public func publish(bytes: ZeroMQBytes, to topic: Topic) async throws {
    try await self.connection.publish(bytes, to: topic)
  }

  /// Sends what is queued, then closes.
  public func close() async { await self.connection.close() }
}

/// Keys of a topic socket: those of a server where it binds, of a client where it connects.
public struct TopicSecurity: Sendable {
  public static let none = TopicSecurity(server: .none, client: .none)

  /// Where the socket binds.
  public static func server(_ security: ServerSecurity) -> TopicSecurity {
    TopicSecurity(server: security, client: .none)
  }

  /// Where the socket connects.
  public static func client(_ security: ClientSecurity) -> TopicSecurity {
    TopicSecurity(server: .none, client: security)
  }

  let server: ServerSecurity
  let client: ClientSecurity

  /// Binds or connects.
  func attach(_ socket: Socket, _ attachment: Attachment, on loop: SocketLoop) throws -> (
    endpoint: Endpoint?, authenticator: Authenticator?
  ) {
    switch attachment {
    case .bind(let endpoint):
      let authenticator = try socket.secure(self.server, at: endpoint, on: loop)
      try socket.bind(endpoint)
      return (try socket.lastEndpoint(), authenticator)
    case .connect(let endpoints):
      guard !endpoints.isEmpty else {
        throw BusError(.invalidEndpoint, "There is no endpoint to connect to: give at least one.")
      }
      for endpoint in endpoints {
        try socket.secure(self.client, to: endpoint)
        try socket.connect(endpoint)
      }
      return (nil, nil)
    }
  }
}
