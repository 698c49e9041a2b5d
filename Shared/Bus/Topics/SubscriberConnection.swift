import CZeroMQ
import DequeModule
import Schemas
import Synchronization

/// The SUB socket of a subscriber and the messages that wait for its reader; lives on its loop.
final class SubscriberConnection: LoopDriver {
  private struct Queue {
    var messages: Deque<ReceivedMessage> = []
    var bytes = 0
    var readers: Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)> = []
    var nextReader: UInt64 = 0
    var isClosed = false
    /// The loop waits for the reader.
    var isPaused = false
    var isFinished = false
    var closers: [CheckedContinuation<Void, Never>] = []
  }

  private static let batch = 256
  /// Bytes of the largest envelope.
  static let largestEnvelope = 4 << 10

  private let loop: SocketLoop
  private let socket: Socket
  private let authenticator: Authenticator?
  private let access: AccessControl
  let endpoint: Endpoint?
  private let topics: [Topic]
  private let configuration: Subscriber.Configuration
  private let queue = Mutex(Queue())
  /// Of the loop only; locked because the compiler cannot know that.
  private let gaps = Mutex(GapDetector())

  init(
    _ attachment: Attachment, topics: [Topic], security: TopicSecurity,
    configuration: Subscriber.Configuration
  ) throws {
    self.loop = try SocketLoop()
    self.topics = topics
    self.configuration = configuration
    let socket = try Socket(ZMQ_SUB, isolated: attachment.isolated)
    let waiting = SocketLimits.waitingMessages(
      atMost: configuration.queuedMessages, of: configuration.maxMessageBytes)
    try socket.set(ZMQ_RCVHWM, Int32(clamping: waiting))
    try socket.set(ZMQ_LINGER, Int32(0))
    try socket.set(ZMQ_MAXMSGSIZE, SocketLimits.frame(for: configuration.maxMessageBytes))
    try socket.set(ZMQ_RECONNECT_IVL, configuration.reconnectPause.wholeMilliseconds)
    try socket.set(ZMQ_RECONNECT_IVL_MAX, configuration.maxReconnectPause.wholeMilliseconds)
    try socket.setHeartbeat(configuration.heartbeat)
    for topic in topics { try socket.set(ZMQ_SUBSCRIBE, topic.subscription) }
    (self.endpoint, self.authenticator) = try security.attach(socket, attachment, on: self.loop)
    self.access = AccessControl(
      watcher: self.authenticator == nil ? nil : security.server.keys?.watcher, policy: configuration.policy)
    self.socket = socket
  }

  // MARK: Any task

  func start() { self.loop.start(self, name: "bus-subscriber") }

  func stop() {
    self.queue.withLock { $0.isClosed = true }
    self.loop.stop()
  }

  func close() async {
    await withCheckedContinuation { continuation in
      let isFinished = self.queue.withLock { queue in
        queue.isClosed = true
        if !queue.isFinished { queue.closers.append(continuation) }
        return queue.isFinished
      }
      if isFinished { continuation.resume() } else { self.loop.stop() }
    }
  }

  /// The next message; nil after ``close()`` or where the task was cancelled.
  func next() async -> ReceivedMessage? {
    while !Task.isCancelled {
      let (message, isClosed, resume) = self.queue.withLock { queue in
        guard let message = queue.messages.popFirst() else {
          return (nil as ReceivedMessage?, queue.isClosed, false)
        }
        queue.bytes -= message.payload.count
        let resume =
          queue.isPaused && queue.messages.count <= self.configuration.queuedMessages / 2
          && queue.bytes <= self.configuration.queuedBytes / 2
        if resume { queue.isPaused = false }
        return (message, false, resume)
      }
      if resume { self.loop.wake() }
      if let message { return message }
      if isClosed { return nil }
      await self.waitForMessage()
    }
    return nil
  }

  private func waitForMessage() async {
    let id = self.queue.withLock { queue in
      defer { queue.nextReader += 1 }
      return queue.nextReader
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goOn = self.queue.withLock { queue in
          if !queue.messages.isEmpty || queue.isClosed || Task.isCancelled { return true }
          queue.readers.append((id, continuation))
          return false
        }
        if goOn { continuation.resume() }
      }
    } onCancel: {
      let continuation = self.queue.withLock { queue in
        queue.readers.firstIndex { $0.id == id }.map { queue.readers.remove(at: $0).continuation }
      }
      continuation?.resume()
    }
  }

  // MARK: The loop

  func turn() -> Bool {
    while let authenticator, authenticator.turn() {}
    guard !self.queue.withLock({ $0.isPaused }) else { return false }
    var messages: [ReceivedMessage] = []
    // No more than there is room for, and one message: publishers send on meanwhile.
    var (count, room) = (0, self.configuration.queuedBytes - self.queue.withLock { $0.bytes })
    while count < Self.batch, room > 0, let frames = self.socket.receive(limit: 3) {
      count += 1
      guard let message = self.message(frames) else { continue }
      room -= message.payload.count
      messages.append(message)
    }
    if !messages.isEmpty { self.deliver(messages) }
    return count == Self.batch
  }

  private func deliver(_ messages: [ReceivedMessage]) {
    let missed = messages.reduce(0) { $0 + $1.missed }
    BusMetrics.count(.received, UInt64(messages.count))
    if missed > 0 { BusMetrics.count(.missed, missed) }
    let readers = self.queue.withLock { queue in
      for message in messages { queue.bytes += message.payload.count }
      queue.messages.append(contentsOf: messages)
      queue.isPaused =
        queue.messages.count >= self.configuration.queuedMessages
        || queue.bytes >= self.configuration.queuedBytes
      defer { queue.readers = [] }
      return queue.readers
    }
    for reader in readers { reader.continuation.resume() }
  }

  private func message(_ frames: [ZeroMQBytes]) -> ReceivedMessage? {
    guard frames.count == 3, frames[0].count <= Topic.longest, frames[1].count <= Self.largestEnvelope,
      let path = frames[0].withUnsafeBytes({ String(validating: $0, as: UTF8.self) }),
      let envelope = try? frames[1].withUnsafeBytes({ try TopicEnvelope(serializedBytes: $0) })
    else {
      BusMetrics.count(.malformed)
      return nil
    }
    let topic = Topic(path)
    // Names are kept; a publisher's own connection takes no other.
    guard envelope.publisher.utf8.count <= Topic.longest, Topic(envelope.publisher).isValid else {
      BusMetrics.count(.malformed)
      return nil
    }
    guard topic.isValid, frames[2].count <= self.configuration.maxMessageBytes else {
      BusMetrics.count(topic.isValid ? .tooLarge : .malformed)
      return nil
    }
    guard self.topics.contains(where: { topic.isWithin($0) }) else { return nil }
    let (isAllowed, identity) = self.access.publisher(
      of: topic, named: envelope.publisher, userID: frames[0].property("User-Id"))
    guard isAllowed else { return nil }
    let missed = self.gaps.withLock {
      $0.missed(
        publisher: envelope.publisher, topic: topic, session: envelope.session, sequence: envelope.sequence)
    }
    return ReceivedMessage(
      topic: topic, publisher: envelope.publisher, sequence: envelope.sequence,
      publishedUnixNanos: envelope.unixNanos, payload: frames[2], peer: identity, missed: missed)
  }

  func interests() -> LoopInterests {
    var interests = LoopInterests()
    // Unread, the socket fills up, which is what slows or loses: the publisher's side knows.
    if !self.queue.withLock({ $0.isPaused }) { interests.sockets.append((self.socket.handle, ZMQ_POLLIN)) }
    if let authenticator { interests.sockets.append((authenticator.socket.handle, ZMQ_POLLIN)) }
    return interests
  }

  func finish() {
    self.authenticator?.close()
    self.socket.close()
    let (readers, closers) = self.queue.withLock { queue in
      queue.isClosed = true
      queue.isFinished = true
      defer {
        queue.readers = []
        queue.closers = []
      }
      return (queue.readers, queue.closers)
    }
    for reader in readers { reader.continuation.resume() }
    for closer in closers { closer.resume() }
  }
}
