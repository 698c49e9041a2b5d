import CZeroMQ
import DequeModule
import Foundation
import Schemas
import Synchronization

/// The PUB socket of a publisher and the messages that wait for it; lives on its loop.
final class PublisherConnection: LoopDriver {
  private struct Message: Sendable {
    let topic: Topic
    let envelope: ZeroMQBytes
    let payload: ZeroMQBytes
  }

  private struct Queue {
    var messages: Deque<Message> = []
    var bytes = 0
    var sequences: [Topic: UInt64] = [:]
    var isClosed = false
    var waiting: Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)> = []
    var nextWaiter: UInt64 = 0
    var closers: [CheckedContinuation<Void, Never>] = []
    var isFinished = false
  }

  /// Topics whose sequence is remembered; a publisher of more starts anew, which subscribers see as a new session.
  private static let mostTopics = 10_000
  /// Requests of subscribers that are read before the loop looks at its other work.
  private static let batch = 256

  private let loop: SocketLoop
  private let socket: Socket
  private let monitor: SocketMonitor
  private let authenticator: Authenticator?
  private let access: AccessControl
  let endpoint: Endpoint?
  private let identity: String
  private let configuration: Publisher.Configuration
  private let maxMessageBytes: Int
  private let session = Mutex(UInt64.random(in: 1 ... .max))
  private let queue = Mutex(Queue())
  /// Of the loop only; locked because the compiler cannot know that.
  private let sending: Mutex<Sending>
  /// As above.
  private let subscriptions: Mutex<SubscriptionTable>

  private struct Sending {
    /// Messages that ZeroMQ did not take yet.
    var unsent: Deque<Message> = []
    var full: FullSubscribers
  }

  init(
    _ attachment: Attachment, identity: String, security: TopicSecurity,
    configuration: Publisher.Configuration
  ) throws {
    guard !identity.isEmpty, Topic(identity).isValid else {
      throw BusError(.invalidTopic, "\"\(identity)\" is no publisher's name.")
    }
    self.loop = try SocketLoop()
    self.identity = identity
    self.configuration = configuration
    self.sending = Mutex(Sending(full: FullSubscribers(patience: configuration.patience)))
    let socket = try Socket(ZMQ_XPUB, isolated: attachment.isolated)
    self.maxMessageBytes = configuration.maxMessageBytes(attachment)
    switch attachment {
    case .bind:
      // Who subscribes and does not read must hold up nobody. ZeroMQ learns of what was read in steps of half its mark.
      let waiting = SocketLimits.waitingMessages(
        atMost: configuration.queuedMessages * 2, of: self.maxMessageBytes)
      try socket.set(ZMQ_SNDHWM, Int32(clamping: waiting))
    case .connect:
      // A full service is an error that the loop waits on, not a silent loss.
      try socket.set(ZMQ_XPUB_NODROP, Int32(1))
      try socket.set(ZMQ_SNDHWM, Int32(clamping: configuration.queuedMessages))
    }
    try socket.set(ZMQ_LINGER, Int32(1000))
    try socket.set(ZMQ_RECONNECT_IVL, configuration.reconnectPause.wholeMilliseconds)
    try socket.set(ZMQ_RECONNECT_IVL_MAX, configuration.maxReconnectPause.wholeMilliseconds)
    try socket.setHeartbeat(configuration.heartbeat)
    // Each subscription is told, and a few at a time: ZeroMQ takes all that has come before it tells of the first.
    try socket.set(ZMQ_XPUB_VERBOSER, Int32(1))
    // 2 and not 1: under CURVE ZeroMQ puts the user's name before the first request and never takes it off the count, so
    // that with 1 there would be no room for a request, ever.
    try socket.set(ZMQ_RCVHWM, Int32(2))
    try socket.set(ZMQ_MAXMSGSIZE, Int64(SocketLimits.request))
    self.monitor = try SocketMonitor(socket)
    (self.endpoint, self.authenticator) = try security.attach(socket, attachment, on: self.loop)
    self.access = AccessControl(
      watcher: self.authenticator == nil ? nil : security.server.keys?.watcher, policy: .fleet)
    self.subscriptions = Mutex(
      SubscriptionTable(
        perPeer: .init(
          count: configuration.maxSubscriptionsPerPeer, bytes: configuration.maxSubscribedBytesPerPeer),
        inAll: .init(count: configuration.maxSubscriptions, bytes: configuration.maxSubscribedBytes)))
    self.socket = socket
  }

  // MARK: Any task

  func start() { self.loop.start(self, name: "bus-publisher") }

  func stop() {
    self.queue.withLock { $0.isClosed = true }
    self.loop.wake()
  }

  func close() async {
    await withCheckedContinuation { continuation in
      let isFinished = self.queue.withLock { queue in
        queue.isClosed = true
        if !queue.isFinished { queue.closers.append(continuation) }
        return queue.isFinished
      }
      if isFinished { continuation.resume() } else { self.loop.wake() }
    }
  }

  func publish(_ payload: ZeroMQBytes, to topic: Topic) async throws {
    guard topic.isValid else {
      throw BusError(.invalidTopic, "\"\(topic)\" is no topic: write parts without spaces between slashes.")
    }
    guard payload.count <= self.maxMessageBytes else {
      throw BusError(
        .tooLarge,
        "A message of \(payload.count) bytes for \(topic) is above the limit of \(self.maxMessageBytes)."
      )
    }
    if try self.append(payload, to: topic) { return }
    try await self.waitForRoom(payload, to: topic)
  }

  /// - Returns: false where there is no room.
  private func append(_ payload: ZeroMQBytes, to topic: Topic) throws -> Bool {
    let appended: Bool? = self.queue.withLock { queue in
      guard !queue.isClosed else { return nil }
      let isFull =
        queue.messages.count >= self.configuration.queuedMessages
        || queue.bytes > 0 && queue.bytes + payload.count > self.configuration.queuedBytes
      guard !isFull else { return false }
      if queue.sequences.count >= Self.mostTopics, queue.sequences[topic] == nil {
        queue.sequences = [:]
        self.session.withLock { $0 = UInt64.random(in: 1 ... .max) }
      }
      let sequence = queue.sequences[topic, default: 0] + 1
      queue.sequences[topic] = sequence
      let envelope = TopicEnvelope(
        publisher: self.identity, sequence: sequence, unixNanos: Self.wallClock(),
        session: self.session.withLock { $0 })
      queue.messages.append(Message(topic: topic, envelope: Self.encode(envelope), payload: payload))
      queue.bytes += payload.count
      return true
    }
    guard let appended else { throw BusError(.closed, "The publisher was closed.") }
    if appended { self.loop.wake() }
    return appended
  }

  private func waitForRoom(_ payload: ZeroMQBytes, to topic: Topic) async throws {
    let deadline = ContinuousClock.now + self.configuration.patience
    let timeout = Task {
      try await Task.sleep(until: deadline)
      self.wakeWaiters()
    }
    defer { timeout.cancel() }
    while ContinuousClock.now < deadline {
      try Task.checkCancellation()
      await self.waitForWakeup(before: deadline)
      if try self.append(payload, to: topic) { return }
    }
    BusMetrics.count(.publishDropped)
    // The sequence number goes with it, so that subscribers see the gap.
    self.queue.withLock { $0.sequences[topic, default: 0] += 1 }
    throw BusError(
      .dropped,
      "A message for \(topic) was dropped: subscribers did not make room within \(self.configuration.patience)."
    )
  }

  private func waitForWakeup(before deadline: ContinuousClock.Instant) async {
    let id = self.queue.withLock { queue in
      defer { queue.nextWaiter += 1 }
      return queue.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goOn = self.queue.withLock { queue in
          let hasRoom =
            queue.messages.count < self.configuration.queuedMessages
            && queue.bytes < self.configuration.queuedBytes
          if hasRoom || queue.isClosed || Task.isCancelled || ContinuousClock.now >= deadline { return true }
          queue.waiting.append((id, continuation))
          return false
        }
        if goOn { continuation.resume() }
      }
    } onCancel: {
      let continuation = self.queue.withLock { queue in
        queue.waiting.firstIndex { $0.id == id }.map { queue.waiting.remove(at: $0).continuation }
      }
      continuation?.resume()
    }
  }

  private func wakeWaiters() {
    let waiting = self.queue.withLock { queue in
      defer { queue.waiting = [] }
      return queue.waiting
    }
    for waiter in waiting { waiter.continuation.resume() }
  }

  private static func encode(_ envelope: TopicEnvelope) -> ZeroMQBytes {
    envelope.withEncoder { encoder in
      ZeroMQBytes(uninitializedCount: encoder.size) { encoder.write(to: $0) }
    }
  }

  private static func wallClock() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  // MARK: The loop

  func turn() -> Bool {
    while let authenticator, authenticator.turn() {}
    self.watchConnections()
    // Subscriptions come in as messages; ZeroMQ has noted them already.
    var requests = 0
    while requests < Self.batch, let request = self.socket.receive(limit: 2) {
      requests += 1
      self.note(request)
    }
    self.endRevoked()
    self.endLossiness()
    let (sent, hasMore) = self.sending.withLock { self.sendQueued(&$0) }
    if sent > 0 { BusMetrics.count(.published, UInt64(sent)) }
    if !hasMore, self.queue.withLock({ $0.isClosed && $0.messages.isEmpty }) { self.loop.stop() }
    // Where ZeroMQ did not take a message, the loop waits a moment.
    return hasMore && sent > 0 || requests == Self.batch
  }

  private func watchConnections() {
    while let event = self.monitor.next() {
      switch event {
      case .opened(let connection):
        self.subscriptions.withLock { $0.open(connection, cookie: czmq_cookie(connection)) }
      case .disconnected(let connection): self.subscriptions.withLock { $0.close(connection) }
      case .acceptFailed(let error):
        if let endpoint { DescriptorLimit.acceptFailed(error, at: endpoint) }
      case .connected, .refused: break
      }
    }
  }

  /// Counts a subscription, or the end of one. Within this process (inproc) there is no connection, and no limit.
  private func note(_ request: [ZeroMQBytes]) {
    guard request.count == 1, let connection = request[0].property("__fd").flatMap({ Int32($0) }),
      let kind = request[0].withUnsafeBytes({ $0.first }), kind <= 1
    else { return }
    let topic = Array(request[0].array.dropFirst())
    if kind == 0 { return self.subscriptions.withLock { $0.unsubscribe(connection, from: topic) } }
    // It may have been accepted since this turn began.
    if !self.subscriptions.withLock({ $0.isOpen(connection) }) { self.watchConnections() }
    let userID = request[0].property("User-Id")
    guard self.subscriptions.withLock({ $0.subscribe(connection, userID: userID, to: topic) }) else {
      BusMetrics.count(.subscriptionsRefused)
      return self.end(connection)
    }
    // Its key may have been revoked between its handshake and this.
    if self.access.hasKeys, self.access.identity(userID) == nil { self.endUntrusted() }
  }

  /// Ends a connection, unless it is gone by now.
  private func end(_ connection: Int32) {
    self.watchConnections()
    guard let cookie = self.subscriptions.withLock({ $0.cookieOfEnd(connection) }) else { return }
    czmq_end_connection(connection, cookie)
  }

  private func endRevoked() {
    if self.access.keysChanged() { self.endUntrusted() }
  }

  private func endUntrusted() {
    let revoked = self.subscriptions.withLock { $0.revoked { self.access.identity($0) != nil } }
    for connection in revoked {
      BusMetrics.count(.revoked)
      self.end(connection)
    }
  }

  private func sendQueued(_ sending: inout Sending) -> (sent: Int, hasMore: Bool) {
    if sending.unsent.isEmpty { sending.unsent = self.takeQueue() }
    var sent = 0
    while let message = sending.unsent.first {
      guard self.send(message) else {
        self.bearBlock(&sending)
        return (sent, true)
      }
      sending.unsent.removeFirst()
      sending.full.sent()
      sent += 1
    }
    return (sent, sent > 0)
  }

  /// A service that this publisher connected to is full: see ``FullSubscribers``.
  private func bearBlock(_ sending: inout Sending) {
    guard sending.full.blocked(.now) else { return }
    BusMetrics.count(.publishDropped)
    try? self.socket.set(ZMQ_XPUB_NODROP, Int32(0))
  }

  private func takeQueue() -> Deque<Message> {
    let (messages, waiting) = self.queue.withLock { queue in
      defer {
        queue.messages = []
        queue.bytes = 0
        queue.waiting = []
      }
      return (queue.messages, queue.waiting)
    }
    for waiter in waiting { waiter.continuation.resume() }
    return messages
  }

  private func endLossiness() {
    guard self.sending.withLock({ $0.full.endsLossiness(.now) }) else { return }
    try? self.socket.set(ZMQ_XPUB_NODROP, Int32(1))
  }

  private func send(_ message: Message) -> Bool {
    self.socket.send([ZeroMQBytes(message.topic.path.utf8), message.envelope, message.payload]) != EAGAIN
  }

  func interests() -> LoopInterests {
    let hasMore = self.sending.withLock { !$0.unsent.isEmpty }
    var interests = LoopInterests(sockets: [
      (self.socket.handle, ZMQ_POLLIN), (self.monitor.socket.handle, ZMQ_POLLIN),
    ])
    if self.access.hasKeys, self.subscriptions.withLock({ !$0.isEmpty }) {
      interests.deadline = .now + AccessControl.interval
    }
    if let authenticator { interests.sockets.append((authenticator.socket.handle, ZMQ_POLLIN)) }
    // XPUB calls itself writable although one service is full: try again soon.
    if hasMore { interests.deadline = .now + .milliseconds(2) }
    return interests
  }

  func finish() {
    self.monitor.close()
    self.authenticator?.close()
    self.socket.close()
    let closers = self.queue.withLock { queue in
      queue.isFinished = true
      queue.isClosed = true
      defer { queue.closers = [] }
      return queue.closers
    }
    self.wakeWaiters()
    for closer in closers { closer.resume() }
  }
}
