/// Receives the messages of topics.
///
/// Messages wait in a bounded queue until ``messages`` is read; when it is full, the socket is not read any more,
/// then the publisher's queue fills, and then messages are lost and counted in ``ReceivedMessage/missed``.
public final class Subscriber: Sendable {
  public struct Configuration: Sendable, Hashable {
    /// Messages that wait here for the reader, and in ZeroMQ for each publisher, there as many as have 64 MiB if each is as
    /// large as may be.
    public var queuedMessages = 1000
    /// Bytes that wait here for the reader.
    public var queuedBytes = 64 << 20
    public var maxMessageBytes = SocketLimits.topicMessage
    public var reconnectPause: Duration = .milliseconds(50)
    public var maxReconnectPause: Duration = .seconds(2)
    public var heartbeat: Duration = .seconds(2)
    /// Which role may publish what; used where there are keys.
    public var policy = AccessPolicy.fleet

    public init() {}
  }

  private let connection: SubscriberConnection

  /// Binds or connects.
  /// - Parameters:
  ///   - topics: prefixes, part by part: "trials" and "trials/robot-1" both cover the topic "trials/robot-1".
  ///   - security: keys; of a server where it binds, of a client where it connects.
  public init(
    _ attachment: Attachment, topics: [Topic], security: TopicSecurity = .none,
    configuration: Configuration = .init()
  ) throws {
    self.connection = try SubscriberConnection(
      attachment, topics: topics, security: security, configuration: configuration)
    self.connection.start()
  }

  /// Binds with a server's keys.
  @_disfavoredOverload
  public convenience init(
    _ attachment: Attachment, topics: [Topic], security: ServerSecurity,
    configuration: Configuration = .init()
  ) throws {
    try self.init(
      attachment, topics: topics, security: TopicSecurity.server(security), configuration: configuration)
  }

  /// Connects with a client's keys.
  @_disfavoredOverload
  public convenience init(
    _ attachment: Attachment, topics: [Topic], security: ClientSecurity,
    configuration: Configuration = .init()
  ) throws {
    try self.init(
      attachment, topics: topics, security: TopicSecurity.client(security), configuration: configuration)
  }

  deinit { self.connection.stop() }

  /// Where it is bound, with the real port.
  /// - Throws: ``BusError`` where it connects instead.
  public var boundEndpoint: Endpoint {
    get async throws {
      guard let endpoint = self.connection.endpoint else {
        throw BusError(.endpointUnavailable, "The subscriber connects; it is not bound.")
      }
      return endpoint
    }
  }

  /// The messages, in each publisher's order; ends with ``close()`` or the reader's task. Keeps the subscriber
  /// open while it is read. Several readers share the messages between them.
  public var messages: Messages { Messages(subscriber: self) }

  public struct Messages: AsyncSequence, Sendable {
    public typealias Element = ReceivedMessage
    public typealias Failure = Never
    let subscriber: Subscriber

    public func makeAsyncIterator() -> Iterator { Iterator(subscriber: self.subscriber) }

    public struct Iterator: AsyncIteratorProtocol {
      let subscriber: Subscriber

      public mutating func next() async -> ReceivedMessage? { await self.subscriber.connection.next() }

      public mutating func next(isolation actor: isolated (any Actor)?) async -> ReceivedMessage? {
        await self.subscriber.connection.next()
      }
    }
  }

  public func close() async { await self.connection.close() }
}
