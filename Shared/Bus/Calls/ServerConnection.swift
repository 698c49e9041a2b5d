import CZeroMQ
import GRPCCore
import Schemas
import Synchronization

/// The ROUTER socket of a server and the calls on it; lives on its loop.
actor ServerConnection: LoopDriver {
  typealias Handler =
    @Sendable (RPCStream<ZeroMQServerTransport.Inbound, ZeroMQServerTransport.Outbound>, ServerContext) async
    ->
    Void

  /// What tasks left for the loop.
  private struct Outbox {
    var outgoing: [ServerCall.Parts] = []
    var shutdown = Shutdown.none
    var handler: Handler?
    var finished: CheckedContinuation<Void, Never>?
  }

  enum Shutdown: Int { case none, graceful, immediate }

  private static let batch = 256
  /// How often the server looks whether the peers of its open calls are there.
  private static let probe: Duration = .seconds(1)
  /// Handlers that were cancelled have this long to return.
  private static let abandonment: Duration = .seconds(2)

  /// After the last call the socket reads on for so long: TCP takes a connection that is closed with something
  /// unread for broken, and what the server said last would be lost with it.
  private static let farewell: Duration = .milliseconds(50)

  private let loop: SocketLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.loop.asUnownedSerialExecutor() }
  nonisolated let endpoint: Endpoint
  private let configuration: ZeroMQServerTransport.Configuration
  private let socket: Socket
  private let monitor: SocketMonitor
  private let authenticator: Authenticator?
  private let access: AccessControl
  private nonisolated let outbox = Mutex(Outbox())
  /// Handlers that have not returned.
  private nonisolated let active = Atomic<Int>(0)

  private var handler: Handler?
  private var headers = HeaderCoder()
  private var calls: [UInt64: ServerCall] = [:]
  private var tokens: [ServerCall.Key: UInt64] = [:]
  /// Parts for REQ sockets, until the status completes them.
  private var envelopes: [UInt64: [CallPart]] = [:]
  private var nextToken: UInt64 = 1
  /// No call's deadline is earlier.
  private var nextDeadline: ContinuousClock.Instant?
  private var nextProbe: ContinuousClock.Instant?
  private var shutdown = Shutdown.none
  private var endsBefore: ContinuousClock.Instant?
  private var closesAt: ContinuousClock.Instant?

  init(endpoint: Endpoint, security: ServerSecurity, configuration: ZeroMQServerTransport.Configuration)
    throws
  {
    self.loop = try SocketLoop()
    self.configuration = configuration
    let socket = try Socket(ZMQ_ROUTER, isolated: endpoint.transport != .inproc)
    // An answer to a peer that is gone is an error that the loop hears of.
    try socket.set(ZMQ_ROUTER_MANDATORY, Int32(1))
    // Credit bounds what is under way, see ClientConnection.
    try socket.set(ZMQ_SNDHWM, Int32(0))
    try socket.set(ZMQ_RCVHWM, Int32(0))
    try socket.set(ZMQ_LINGER, Int32(500))
    try socket.set(ZMQ_MAXMSGSIZE, Int64(configuration.limits.maxMessageBytes) * 2)
    try socket.setHeartbeat(configuration.heartbeat)
    self.authenticator = try socket.secure(security, at: endpoint)
    self.access = AccessControl(
      store: self.authenticator == nil ? nil : security.keys?.store, policy: configuration.policy)
    self.monitor = try SocketMonitor(socket)
    try socket.bind(endpoint)
    self.endpoint = try socket.lastEndpoint()
    self.socket = socket
  }

  // MARK: Any task

  nonisolated func run(_ handler: @escaping Handler) async {
    await withCheckedContinuation { continuation in
      let isOver = self.outbox.withLock { outbox in
        outbox.handler = handler
        if outbox.shutdown == .none { outbox.finished = continuation }
        return outbox.shutdown != .none
      }
      if isOver { continuation.resume() } else { self.loop.start(self, name: "bus-server") }
    }
  }

  nonisolated func shutDown(gracefully: Bool) {
    self.outbox.withLock { outbox in
      let shutdown: Shutdown = gracefully ? .graceful : .immediate
      if shutdown.rawValue > outbox.shutdown.rawValue { outbox.shutdown = shutdown }
    }
    self.loop.wake()
  }

  private nonisolated func announce(_ parts: ServerCall.Parts, isNew: Bool, now: Bool) {
    if isNew { self.outbox.withLock { $0.outgoing.append(parts) } }
    if now { self.loop.wake() }
  }

  private nonisolated func handlerReturned() {
    self.active.subtract(1, ordering: .sequentiallyConsistent)
    if self.outbox.withLock({ $0.shutdown != .none }) { self.loop.wake() }
  }

  // MARK: The loop

  nonisolated func turn() -> Bool { self.assumeIsolated { $0.takeTurn() } }
  nonisolated func interests() -> LoopInterests { self.assumeIsolated { $0.currentInterests() } }
  nonisolated func finish() { self.assumeIsolated { $0.close() } }

  private func takeTurn() -> Bool {
    while let authenticator, authenticator.turn() {}
    while let event = self.monitor.next() {
      guard event == .disconnected else { continue }
      BusMetrics.count(.disconnects)
      // The socket itself may learn of it a moment later.
      if !self.calls.isEmpty { self.nextProbe = .now + .milliseconds(20) }
    }
    let sent = self.sendOutgoing()
    var received = 0
    while received < Self.batch, let frames = self.socket.receive(limit: FrameCodec.mostFrames) {
      received += 1
      self.handle(frames)
    }
    self.lookAtClock()
    return sent || received == Self.batch
  }

  private func currentInterests() -> LoopInterests {
    var interests = LoopInterests(sockets: [
      (self.socket.handle, ZMQ_POLLIN), (self.monitor.socket.handle, ZMQ_POLLIN),
    ])
    if let authenticator { interests.sockets.append((authenticator.socket.handle, ZMQ_POLLIN)) }
    interests.deadline = [self.nextDeadline, self.nextProbe, self.endsBefore, self.closesAt].compactMap { $0 }
      .min()
    return interests
  }

  private func sendOutgoing() -> Bool {
    let (outgoing, shutdown, handler) = self.outbox.withLock { outbox in
      defer { outbox.outgoing.removeAll(keepingCapacity: true) }
      return (outbox.outgoing, outbox.shutdown, outbox.handler)
    }
    self.handler = handler
    for parts in outgoing { self.send(of: parts) }
    if shutdown != self.shutdown { self.beginShutdown(shutdown) }
    if self.shutdown != .none, self.active.load(ordering: .sequentiallyConsistent) == 0, self.calls.isEmpty {
      self.closesAt = self.closesAt ?? .now + Self.farewell
    }
    return !outgoing.isEmpty
  }

  private func send(of parts: ServerCall.Parts) {
    var outgoing = parts.takeOutgoing()
    guard let call = self.calls[parts.id] else { return }
    let isOver = outgoing.contains { if case .status = $0 { true } else { false } }
    if call.isEnveloped {
      self.envelopes[parts.id, default: []] += outgoing.filter {
        if case .credit = $0 { false } else { true }
      }
      outgoing = self.envelopes[parts.id] ?? []
      let messages = outgoing.count { if case .message = $0 { true } else { false } }
      if messages > 1 {
        let error = RPCError(code: .unimplemented, message: "A REQ socket can make unary calls only.")
        return self.end(call, with: error)
      }
      if !isOver { return }
    }
    if isOver { self.forget(call) }
    for frame in FrameCodec.frames(of: outgoing, id: call.key.id) where !self.transmit(frame, to: call) {
      return self.lose(call.key.peer)
    }
  }

  /// - Returns: false where the peer is gone.
  private func transmit(_ frame: FrameCodec.Frame, to call: ServerCall) -> Bool {
    self.transmit(frame, to: call.key.peer, isEnveloped: call.isEnveloped)
  }

  private func transmit(_ frame: FrameCodec.Frame, to peer: ZeroMQBytes, isEnveloped: Bool) -> Bool {
    var frames = [peer]
    if isEnveloped { frames.append(ZeroMQBytes([])) }
    frames.append(self.headers.encode(frame.header))
    frames += frame.messages
    return self.socket.send(frames) == 0
  }

  private func forget(_ call: ServerCall) {
    self.calls[call.parts.id] = nil
    self.envelopes[call.parts.id] = nil
    self.tokens[call.key] = nil
    if self.calls.isEmpty {
      self.nextDeadline = nil
      self.nextProbe = nil
    }
  }

  /// Ends a call from this side: the client gets a status, the handler is cancelled.
  private func end(_ call: ServerCall, with error: RPCError) {
    self.forget(call)
    call.abandon(error)
    self.reject(call.key, isEnveloped: call.isEnveloped, error)
  }

  private func reject(_ key: ServerCall.Key, isEnveloped: Bool, _ error: RPCError) {
    let status = CallPart.status(Status(code: Status.Code(error.code), message: error.message), [:])
    for frame in FrameCodec.frames(of: [status], id: key.id) {
      _ = self.transmit(frame, to: key.peer, isEnveloped: isEnveloped)
    }
  }

  /// A peer is gone: its calls are cancelled.
  private func lose(_ peer: ZeroMQBytes) {
    for call in self.calls.values where call.key.peer == peer {
      self.forget(call)
      BusMetrics.count(.callsCancelled)
      call.abandon(RPCError(code: .unavailable, message: "The client is gone."))
    }
  }

  // MARK: What arrives

  private func handle(_ frames: [ZeroMQBytes]) {
    guard frames.count >= 2 else { return BusMetrics.count(.malformed) }
    let isEnveloped = frames[1].count == 0
    guard let frame = self.headers.decode(frames[(isEnveloped ? 2 : 1)...]) else {
      return self.refuseMalformed(frames, isEnveloped: isEnveloped)
    }
    let key = ServerCall.Key(peer: frames[0], id: frame.header.callID)
    if frame.header.kind == .open {
      return self.open(key, frame, isEnveloped: isEnveloped, source: frames[1])
    }
    guard let call = self.tokens[key].flatMap({ self.calls[$0] }) else {
      if !frame.messages.isEmpty { BusMetrics.count(.lateFrames) }
      return
    }
    switch frame.header.kind {
    case .cancel:
      self.forget(call)
      BusMetrics.count(.callsCancelled)
      call.abandon(RPCError(code: .cancelled, message: "The client cancelled the call."))
    case .data, .credit:
      if frame.header.credit > 0 { call.parts.grant(frame.header.credit) }
      self.deliver(frame, to: call, metadata: nil)
    default: break
    }
  }

  private func refuseMalformed(_ frames: [ZeroMQBytes], isEnveloped: Bool) {
    BusMetrics.count(.malformed)
    // A REQ socket would wait for ever; others cannot be told which call is meant.
    guard isEnveloped else { return }
    self.reject(
      ServerCall.Key(peer: frames[0], id: 0), isEnveloped: true,
      RPCError(code: .invalidArgument, message: "The frames are none of the bus; see proto/BUS.md."))
  }

  private func open(_ key: ServerCall.Key, _ frame: FrameCodec.Frame, isEnveloped: Bool, source: ZeroMQBytes)
  {
    let header = frame.header
    guard self.tokens[key] == nil else { return BusMetrics.count(.malformed) }
    do throws(RPCError) {
      let descriptor = try self.accept(frame)
      let identity = try self.access.caller(of: header.method, userID: source.property("User-Id"))
      let token = self.nextToken
      self.nextToken += 1
      let parts = ServerCall.Parts(
        id: token, limits: self.configuration.limits,
        maxMessageBytes: self.configuration.limits.maxMessageBytes,
        announce: { [weak self] parts, isNew, now in self?.announce(parts, isNew: isNew, now: now) })
      let call = ServerCall(
        key: key, parts: parts, descriptor: descriptor, identity: identity,
        deadline: header.timeoutNanos > 0
          ? .now + .nanoseconds(Int64(clamping: header.timeoutNanos)) : nil,
        isEnveloped: isEnveloped, hasSingleResponse: header.singleResponse)
      self.calls[token] = call
      self.tokens[key] = token
      if let deadline = call.deadline { self.nextDeadline = min(self.nextDeadline ?? deadline, deadline) }
      if self.nextProbe == nil { self.nextProbe = .now + Self.probe }
      if header.credit > 0 { parts.grant(header.credit) }
      self.deliver(frame, to: call, metadata: FrameCodec.metadata(header.metadata))
      if !header.halfClose, !isEnveloped {
        let credit = CallFrame(kind: .credit, callID: key.id, credit: UInt64(parts.openingGrant))
        _ = self.transmit(FrameCodec.Frame(header: credit), to: call)
      }
      self.start(call)
    } catch {
      self.reject(key, isEnveloped: isEnveloped, error)
    }
  }

  /// Whether a call may begin, whoever makes it.
  private func accept(_ frame: FrameCodec.Frame) throws(RPCError) -> MethodDescriptor {
    guard self.shutdown == .none, self.handler != nil else {
      throw RPCError(code: .unavailable, message: "\(self.endpoint) is shutting down.")
    }
    guard let descriptor = FrameCodec.descriptor(frame.header.method) else {
      throw RPCError(
        code: .unimplemented, message: "\"\(frame.header.method)\" is no method: package.Service/Method.")
    }
    let limits = self.configuration.limits
    guard self.active.load(ordering: .relaxed) < limits.maxOpenCalls else {
      BusMetrics.count(.callsRejected)
      throw RPCError(
        code: .resourceExhausted, message: "\(limits.maxOpenCalls) calls are open, which is the limit.")
    }
    if let size = frame.messages.map(\.count).max(), size > limits.maxMessageBytes {
      BusMetrics.count(.tooLarge)
      throw Self.tooLarge(size, limits)
    }
    return descriptor
  }

  private static func tooLarge(_ size: Int, _ limits: CallLimits) -> RPCError {
    RPCError(
      code: .resourceExhausted,
      message: "The message has \(size) bytes; the limit is \(limits.maxMessageBytes).")
  }

  /// - Parameter metadata: only of the first frame.
  private func deliver(_ frame: FrameCodec.Frame, to call: ServerCall, metadata: Metadata?) {
    var parts: [RPCRequestPart<ZeroMQBytes>] = []
    if let metadata { parts.append(.metadata(metadata)) }
    for message in frame.messages {
      if message.count > self.configuration.limits.maxMessageBytes {
        BusMetrics.count(.tooLarge)
        return self.end(call, with: Self.tooLarge(message.count, self.configuration.limits))
      }
      parts.append(.message(message))
    }
    guard !parts.isEmpty || frame.header.halfClose else { return }
    if !call.parts.deliver(parts, end: frame.header.halfClose ? .success(()) : nil) {
      let error = RPCError(code: .resourceExhausted, message: "The client sent more than it had credit for.")
      self.end(call, with: error)
    }
  }

  private func start(_ call: ServerCall) {
    guard let handler = self.handler else { return }
    BusMetrics.count(.callsStarted)
    self.active.add(1, ordering: .sequentiallyConsistent)
    let peer = call.identity?.description ?? "zeromq"
    let local = self.endpoint.description
    call.started(
      Task { [self] in
        await PeerIdentity.$current.withValue(call.identity) {
          await withServerContextRPCCancellationHandle { cancellation in
            call.entered(cancellation)
            var context = ServerContext(
              descriptor: call.descriptor, remotePeer: peer, localPeer: local, cancellation: cancellation)
            context.transportSpecific = call.identity
            let writer = ServerWriter(call: call)
            let stream = RPCStream(
              descriptor: call.descriptor,
              inbound: RPCAsyncSequence(wrapping: CallParts(call: call.parts)),
              outbound: RPCWriter.Closable(wrapping: writer))
            await handler(stream, context)
            await writer.finish()
          }
        }
        self.handlerReturned()
      })
  }

  // MARK: Time

  private func lookAtClock() {
    guard self.nextDeadline != nil || self.nextProbe != nil || self.shutdown != .none else { return }
    let now = ContinuousClock.now
    if let end = self.closesAt, end <= now { return self.loop.stop() }
    if let deadline = self.nextDeadline, deadline <= now { self.expire(now) }
    if let probe = self.nextProbe, probe <= now { self.probePeers(now) }
    if let end = self.endsBefore, end <= now {
      // Who has not returned by now does not hold up the process.
      if self.shutdown == .immediate { self.loop.stop() } else { self.beginShutdown(.immediate) }
    }
  }

  private func expire(_ now: ContinuousClock.Instant) {
    for call in self.calls.values {
      guard let deadline = call.deadline, deadline <= now else { continue }
      BusMetrics.count(.deadlinesExpired)
      self.end(call, with: RPCError(code: .deadlineExceeded, message: "The call's deadline has passed."))
    }
    self.nextDeadline = self.calls.values.compactMap(\.deadline).min()
  }

  /// ROUTER tells that a peer is gone only when something is sent to it.
  private func probePeers(_ now: ContinuousClock.Instant) {
    let ping = FrameCodec.Frame(header: CallFrame(kind: .ping))
    // A REQ socket would take the ping for its answer.
    for peer in Set(self.calls.values.lazy.filter { !$0.isEnveloped }.map(\.key.peer))
    where !self.transmit(ping, to: peer, isEnveloped: false) {
      self.lose(peer)
    }
    self.nextProbe = self.calls.isEmpty ? nil : now + Self.probe
  }

  private func beginShutdown(_ shutdown: Shutdown) {
    self.shutdown = shutdown
    switch shutdown {
    case .none: break
    case .graceful:
      self.endsBefore = .now + self.configuration.gracePeriod
      for call in self.calls.values { call.askToEnd() }
    case .immediate:
      self.endsBefore = .now + Self.abandonment
      let error = RPCError(code: .unavailable, message: "\(self.endpoint) is shutting down.")
      for call in self.calls.values { self.end(call, with: error) }
    }
  }

  private func close() {
    self.monitor.close()
    self.authenticator?.close()
    self.socket.close()
    self.handler = nil
    let finished = self.outbox.withLock { outbox in
      outbox.handler = nil
      return outbox.finished.take()
    }
    finished?.resume()
  }
}
