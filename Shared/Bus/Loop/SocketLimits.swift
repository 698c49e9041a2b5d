/// What sockets take from their peers unless configured, by what is sent on them; a message without end is bounded in `meter.c`.
enum SocketLimits {
  /// Bytes of the largest message of a call. The largest that the fleet sends are raw camera images, and events of trials, which
  /// end soon after 1 MiB; pieces of models have at most 1 MiB.
  static let callMessage = 32 << 20
  /// Bytes of the largest published message: events of trials, with room for one large image. A larger event is uploaded.
  static let topicMessage = 4 << 20
  /// Bytes of the largest message that a service publishes unless it says otherwise: acknowledgements, alerts, progress.
  static let boundTopicMessage = 32 << 10
  /// Bytes of the largest frame that a subscriber may send: topics are short, and so are handshakes.
  static let request = 2048
  /// Bytes of one publisher's messages that wait in ZeroMQ while they are not read, and of those for one subscriber.
  static let waiting = 64 << 20

  /// ZeroMQ counts messages, not bytes.
  /// - Returns: how many may wait, at most `messages`.
  static func waitingMessages(atMost messages: Int, of bytes: Int) -> Int {
    max(1, min(messages, Self.waiting / max(1, bytes)))
  }

  /// - Returns: what ZeroMQ is told for messages of so many bytes: encryption takes some, and so do other frames.
  static func frame(for bytes: Int) -> Int64 { Int64(max(bytes, 8 << 10)) + 256 }
}
