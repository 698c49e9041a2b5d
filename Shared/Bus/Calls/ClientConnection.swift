import CZeroMQ
import GRPCCore
import Schemas
import Synchronization

/// What opens a call.
struct ClientCallRequest: Sendable {
  var method: String
  var timeout: Duration?
  var waitsForReady: Bool
  var hasSingleResponse: Bool
}

/// The DEALER socket of a client and the calls on it; lives on its loop.
actor ClientConnection: LoopDriver {
  typealias ClientCall = Call<RPCResponsePart<ZeroMQBytes>>

  private struct OpenCall {
    let call: ClientCall
    let request: ClientCallRequest
    /// When the call gives up waiting for a connection.
    let waitsUntil: ContinuousClock.Instant?
    let began: ContinuousClock.Instant
    var isOpened = false
  }

  /// What tasks left for the loop.
  private struct Outbox {
    var opened: [OpenCall] = []
    var outgoing: [ClientCall] = []
    var isClosed = false
    var finished: CheckedContinuation<Void, Never>?
  }

  /// Frames read before the loop looks at its other work.
  private static let batch = 256
  /// inproc has no events: this often the loop looks whether its peer is there.
  private static let probe: Duration = .milliseconds(100)

  private let loop: SocketLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.loop.asUnownedSerialExecutor() }
  private let endpoint: Endpoint
  private let configuration: ZeroMQClientTransport.Configuration
  private let socket: Socket
  private let monitor: SocketMonitor
  private nonisolated let outbox = Mutex(Outbox())

  private var headers = HeaderCoder()
  private var calls: [UInt64: OpenCall] = [:]
  /// Calls that wait for a connection, in the order they came.
  private var waiting: [UInt64] = []
  private var isConnected = false
  private var keepsAliveAt: ContinuousClock.Instant?
  /// Whether the last connection ended before it was set up.
  private var isTurnedAway = false

  init(
    endpoint: Endpoint, security: ClientSecurity, configuration: ZeroMQClientTransport.Configuration
  ) throws {
    self.loop = try SocketLoop()
    self.endpoint = endpoint
    self.configuration = configuration
    let socket = try Socket(ZMQ_DEALER, isolated: endpoint.transport != .inproc)
    // What was sent on a connection that is lost is lost with it: the calls it belonged to have failed.
    try socket.set(ZMQ_IMMEDIATE, Int32(1))
    // Credit bounds what is under way; a second bound here could only stop calls that have credit.
    try socket.set(ZMQ_SNDHWM, Int32(0))
    try socket.set(ZMQ_RCVHWM, Int32(0))
    try socket.set(ZMQ_LINGER, Int32(500))
    try socket.set(ZMQ_MAXMSGSIZE, Int64(configuration.limits.maxMessageBytes) * 2)
    try socket.set(ZMQ_RECONNECT_IVL, configuration.reconnectPause.wholeMilliseconds)
    try socket.set(ZMQ_RECONNECT_IVL_MAX, configuration.maxReconnectPause.wholeMilliseconds)
    try socket.setHeartbeat(configuration.heartbeat)
    try socket.secure(security, to: endpoint)
    self.monitor = try SocketMonitor(socket)
    try socket.connect(endpoint)
    self.socket = socket
  }

  // MARK: Any task

  /// Runs the loop until ``stop()``.
  nonisolated func run() async {
    await withCheckedContinuation { continuation in
      let isClosed = self.outbox.withLock { outbox in
        if !outbox.isClosed { outbox.finished = continuation }
        return outbox.isClosed
      }
      if isClosed { continuation.resume() } else { self.loop.start(self, name: "bus-client") }
    }
  }

  /// Ends the loop; calls that are open fail.
  nonisolated func stop() {
    let (calls, isRunning) = self.outbox.withLock { outbox in
      outbox.isClosed = true
      defer { outbox.opened = [] }
      return (outbox.opened, outbox.finished != nil)
    }
    for open in calls { open.call.fail(self.lost("The client was shut down.")) }
    if isRunning { self.loop.stop() }
  }

  nonisolated func open(_ request: ClientCallRequest, id: UInt64, maxMessageBytes: Int) -> ClientCall {
    let call = ClientCall(
      id: id, limits: self.configuration.limits, maxMessageBytes: maxMessageBytes,
      announce: { [weak self] call, isNew in
        guard let self else { return }
        if isNew { self.outbox.withLock { $0.outgoing.append(call) } }
        self.loop.wake()
      })
    let now = ContinuousClock.now
    let open = OpenCall(
      call: call, request: request,
      waitsUntil: request.waitsForReady ? nil : now + self.configuration.connectionGrace, began: now)
    let isClosed = self.outbox.withLock { outbox in
      if !outbox.isClosed { outbox.opened.append(open) }
      return outbox.isClosed
    }
    if isClosed { call.fail(self.lost("The client was shut down.")) }
    return call
  }

  private nonisolated func lost(_ reason: String) -> RPCError {
    RPCError(code: .unavailable, message: "\(reason) (\(self.endpoint))")
  }

  // MARK: The loop

  nonisolated func turn() -> Bool { self.assumeIsolated { $0.takeTurn() } }
  nonisolated func interests() -> LoopInterests { self.assumeIsolated { $0.currentInterests() } }
  nonisolated func finish() { self.assumeIsolated { $0.close() } }

  private func takeTurn() -> Bool {
    self.watchConnection()
    let sent = self.sendOutgoing()
    let isBatchFull = self.receive(atMost: Self.batch)
    self.giveUpWaiting()
    self.keepAlive()
    return sent || isBatchFull
  }

  /// - Returns: whether there may be more to receive.
  private func receive(atMost limit: Int) -> Bool {
    for _ in 0..<limit {
      guard let frames = self.socket.receive(limit: FrameCodec.mostFrames) else { return false }
      self.handle(frames)
    }
    return true
  }

  private func currentInterests() -> LoopInterests {
    let events = self.isConnected ? ZMQ_POLLIN : ZMQ_POLLIN | ZMQ_POLLOUT
    var interests = LoopInterests(sockets: [
      (self.socket.handle, events), (self.monitor.socket.handle, ZMQ_POLLIN),
    ])
    if self.endpoint.transport == .inproc, !self.calls.isEmpty {
      interests.deadline = .now + Self.probe
    } else {
      interests.deadline = self.waiting.compactMap { self.calls[$0]?.waitsUntil }.min()
    }
    if let keepsAliveAt { interests.deadline = min(interests.deadline ?? keepsAliveAt, keepsAliveAt) }
    return interests
  }

  /// A server ends calls on which nobody says anything: five times in that long the loop says that they are wanted.
  private func keepAlive() {
    let pause = self.configuration.limits.idleLimit / 5
    guard !self.calls.isEmpty else { return self.keepsAliveAt = nil }
    guard let due = self.keepsAliveAt else { return self.keepsAliveAt = .now + pause }
    guard due <= .now else { return }
    self.keepsAliveAt = .now + pause
    for (id, open) in self.calls where open.isOpened {
      guard self.transmit(FrameCodec.Frame(header: CallFrame(kind: .credit, callID: id))) else {
        return self.loseConnection()
      }
    }
  }

  private func watchConnection() {
    while let event = self.monitor.next() {
      switch event {
      case .connected: self.isTurnedAway = false
      // A server that does not trust the key ends the connection without a word, and takes it once it does.
      case .disconnected: if self.isConnected { self.loseConnection() } else { self.isTurnedAway = true }
      case .refused: self.isTurnedAway = true
      case .opened, .acceptFailed: break
      }
    }
    if !self.isConnected {
      self.isConnected = self.socket.isWritable
      if self.isConnected { self.openWaiting() }
    } else if self.endpoint.transport == .inproc, !self.socket.isWritable {
      self.loseConnection()
    }
  }

  private func openWaiting() {
    let ids = self.waiting
    self.waiting = []
    for id in ids { if let open = self.calls[id] { self.send(of: open.call) } }
  }

  private func loseConnection() {
    self.isConnected = false
    // What the server said before it went still counts.
    while self.receive(atMost: Self.batch) {}
    BusMetrics.count(.disconnects)
    let lost = self.calls.filter { $0.value.isOpened }
    for (id, open) in lost {
      self.calls[id] = nil
      open.call.fail(self.lost("The connection was lost."))
    }
  }

  private func giveUpWaiting() {
    guard !self.waiting.isEmpty else { return }
    let now = ContinuousClock.now
    self.waiting.removeAll { id in
      guard let open = self.calls[id] else { return true }
      if open.call.hasEnded {
        self.calls[id] = nil
        return true
      }
      guard let until = open.waitsUntil, until <= now else { return false }
      self.calls[id] = nil
      let reason =
        self.isTurnedAway
        ? "The server ends connections at once: it may not trust this key, or have another key than expected."
        : "There is no connection."
      var error = self.lost(reason)
      // gRPC's word for "do not try again": the call has waited for its grace already.
      error.metadata = ["grpc-retry-pushback-ms": "-1"]
      open.call.fail(error)
      return true
    }
  }

  private func sendOutgoing() -> Bool {
    let (opened, outgoing) = self.outbox.withLock { outbox in
      defer {
        outbox.opened.removeAll(keepingCapacity: true)
        outbox.outgoing.removeAll(keepingCapacity: true)
      }
      return (outbox.opened, outbox.outgoing)
    }
    for open in opened { self.calls[open.call.id] = open }
    for call in outgoing { self.send(of: call) }
    return !outgoing.isEmpty
  }

  /// Sends what a call has to say.
  private func send(of call: ClientCall) {
    guard let open = self.calls[call.id] else { return _ = call.takeOutgoing() }
    guard self.isConnected || call.hasEnded else {
      // Its parts stay with the call, which credit bounds.
      if !self.waiting.contains(call.id) { self.waiting.append(call.id) }
      return call.keepOutgoing()
    }
    let parts = call.takeOutgoing()
    let isCancelled = parts.contains { if case .cancel = $0 { true } else { false } }
    if isCancelled { self.calls[call.id] = nil }
    if !open.isOpened {
      // Nobody heard of it.
      if isCancelled { return self.waiting.removeAll { $0 == call.id } }
      self.calls[call.id]?.isOpened = true
    }
    let first = open.isOpened ? nil : self.openingFrame(open)
    for frame in FrameCodec.frames(of: parts, id: call.id, first: first) {
      let header = self.headers.encode(frame.header)
      guard header.count <= HeaderCoder.largest else { return self.refuse(call, header.count) }
      guard self.socket.send([header] + frame.messages) == 0 else { return self.loseConnection() }
    }
  }

  /// A server would not know whose the header is, and so not answer.
  private func refuse(_ call: ClientCall, _ bytes: Int) {
    self.calls[call.id] = nil
    call.fail(
      RPCError(
        code: .resourceExhausted,
        message: "The call's metadata takes a header of \(bytes) bytes; the limit is \(HeaderCoder.largest).")
    )
  }

  private func openingFrame(_ open: OpenCall) -> CallFrame {
    var frame = CallFrame(kind: .open, callID: open.call.id, method: open.request.method)
    frame.singleResponse = open.request.hasSingleResponse
    if !frame.singleResponse { frame.credit = UInt64(open.call.openWindow()) }
    if let timeout = open.request.timeout {
      let left = timeout - open.began.duration(to: .now)
      frame.timeoutNanos = UInt64(max(1, left.wholeNanoseconds))
    }
    return frame
  }

  private func transmit(_ frame: FrameCodec.Frame) -> Bool {
    self.socket.send([self.headers.encode(frame.header)] + frame.messages) == 0
  }

  private func handle(_ frames: [ZeroMQBytes]) {
    guard let frame = self.headers.decode(frames[...]) else { return BusMetrics.count(.malformed) }
    if frame.header.kind == .ping { return }
    guard let open = self.calls[frame.header.callID] else {
      if !frame.messages.isEmpty { BusMetrics.count(.lateFrames) }
      return
    }
    if frame.header.credit > 0 { open.call.grant(frame.header.credit) }
    var parts: [RPCResponsePart<ZeroMQBytes>] = []
    if frame.header.hasMetadata { parts.append(.metadata(FrameCodec.metadata(frame.header.metadata))) }
    for message in frame.messages { parts.append(.message(message)) }
    if frame.header.kind == .status {
      parts.append(
        .status(FrameCodec.status(of: frame.header), FrameCodec.metadata(frame.header.trailingMetadata)))
      self.calls[frame.header.callID] = nil
      open.call.stopWriting(RPCError(code: .failedPrecondition, message: "The server has ended the call."))
      open.call.deliver(parts, end: .success(()))
    } else if open.call.deliver(parts) != .delivered {
      self.calls[frame.header.callID] = nil
      _ = self.transmit(FrameCodec.Frame(header: CallFrame(kind: .cancel, callID: frame.header.callID)))
      open.call.fail(
        RPCError(code: .resourceExhausted, message: "The server sent more than it had credit for."))
    }
  }

  private func close() {
    // Calls that are open hear it, and so does the server.
    for (id, open) in self.calls {
      if open.isOpened { _ = self.transmit(FrameCodec.Frame(header: CallFrame(kind: .cancel, callID: id))) }
      open.call.fail(self.lost("The client was shut down."))
    }
    self.calls = [:]
    self.monitor.close()
    self.socket.close()
    let finished = self.outbox.withLock { outbox in
      outbox.isClosed = true
      return outbox.finished.take()
    }
    finished?.resume()
  }
}
