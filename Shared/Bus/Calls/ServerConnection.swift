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
    /// Calls that began to wait for room.
    var waiting: [UInt64] = []
    var shutdown = Shutdown.none
    var handler: Handler?
    var finished: CheckedContinuation<Void, Never>?
  }

  enum Shutdown: Int { case none, graceful, immediate }

  private static let batch = 256
  /// How often the server looks whether the peers of its open calls are there.
  private static let probe: Duration = .seconds(1)
  /// Pauses between looks whether there is room again: the first, and the longest.
  private static let roomPauses: (Duration, Duration) = (.milliseconds(1), .milliseconds(64))
  /// Budgets of peers that have nothing here any more are forgotten so often.
  private static let upkeep: Duration = .seconds(10)
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
  /// Calls turned down for lack of room.
  private nonisolated let rejected = Atomic<Int>(0)
  private nonisolated let budget = ServerBudget()

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
  private var peers: [PeerKey: PeerBudget] = [:]
  private var nextUpkeep: ContinuousClock.Instant?
  /// Descriptors whose connections have ended, until another connection of this socket has them.
  private var gone: Set<Int32> = []
  /// Calls whose writers wait for room, first come first served.
  private var waiting: [UInt64] = []
  private var nextRoomCheck: ContinuousClock.Instant?
  private var roomPause = ServerConnection.roomPauses.0
  private var nextSilenceCheck: ContinuousClock.Instant?
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
    // Budgets bound what is under way, in bytes; a bound on messages could only stop calls that have room.
    try socket.set(ZMQ_SNDHWM, Int32(0))
    try socket.set(ZMQ_LINGER, Int32(500))
    try socket.set(ZMQ_MAXMSGSIZE, Int64(configuration.limits.maxMessageBytes) * 2)
    try socket.setHeartbeat(configuration.heartbeat)
    self.authenticator = try socket.secure(security, at: endpoint, on: self.loop)
    self.access = AccessControl(
      watcher: self.authenticator == nil ? nil : security.keys?.watcher, policy: configuration.policy)
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

  private nonisolated func announce(_ parts: ServerCall.Parts, isNew: Bool) {
    if isNew { self.outbox.withLock { $0.outgoing.append(parts) } }
    self.loop.wake()
  }

  nonisolated var load: ServerLoad {
    ServerLoad(
      openCalls: self.active.load(ordering: .relaxed), queuedBytes: self.budget.queued.bytes,
      unreadBytes: self.budget.unread.bytes)
  }

  /// Calls that were turned down because their peer, or all peers, had too many open or too much to read.
  nonisolated var rejectedCalls: Int { self.rejected.load(ordering: .relaxed) }

  private nonisolated func countRejected() {
    BusMetrics.count(.callsRejected)
    self.rejected.add(1, ordering: .relaxed)
  }

  private nonisolated func waitsForRoom(_ call: UInt64) {
    BusMetrics.count(.writesHeld)
    self.outbox.withLock { $0.waiting.append(call) }
    self.loop.wake()
  }

  private nonisolated func handlerReturned(_ call: ServerCall) {
    call.leave()
    self.active.subtract(1, ordering: .sequentiallyConsistent)
    if self.outbox.withLock({ $0.shutdown != .none }) { self.loop.wake() }
  }

  // MARK: The loop

  nonisolated func turn() -> Bool { self.assumeIsolated { $0.takeTurn() } }
  nonisolated func interests() -> LoopInterests { self.assumeIsolated { $0.currentInterests() } }
  nonisolated func finish() { self.assumeIsolated { $0.close() } }

  private func takeTurn() -> Bool {
    while let authenticator, authenticator.turn() {}
    self.watchConnections()
    let sent = self.sendOutgoing()
    var received = 0
    while received < Self.batch, let frames = self.socket.receive(limit: FrameCodec.mostFrames) {
      received += 1
      self.handle(frames)
    }
    self.lookAtClock()
    return sent || received == Self.batch
  }

  private func watchConnections() {
    var ended: Set<Int32> = []
    while let event = self.monitor.next() {
      switch event {
      case .disconnected(let connection):
        BusMetrics.count(.disconnects)
        self.gone.insert(connection)
        ended.insert(connection)
        // The socket itself may learn of it a moment later.
        if !self.calls.isEmpty { self.nextProbe = .now + .milliseconds(20) }
      case .opened(let connection): self.gone.remove(connection)
      case .acceptFailed(let error): DescriptorLimit.acceptFailed(error, at: self.endpoint)
      case .connected, .refused: break
      }
    }
    if !ended.isEmpty { self.loseEnveloped(ended) }
  }

  private func currentInterests() -> LoopInterests {
    var interests = LoopInterests(sockets: [
      (self.socket.handle, ZMQ_POLLIN), (self.monitor.socket.handle, ZMQ_POLLIN),
    ])
    if let authenticator { interests.sockets.append((authenticator.socket.handle, ZMQ_POLLIN)) }
    interests.deadline =
      [
        self.nextDeadline, self.nextProbe, self.endsBefore, self.closesAt, self.nextUpkeep,
        self.nextRoomCheck,
        self.nextSilenceCheck,
      ].compactMap { $0 }.min()
    return interests
  }

  private func sendOutgoing() -> Bool {
    let (outgoing, waiting, shutdown, handler) = self.outbox.withLock { outbox in
      defer {
        outbox.outgoing.removeAll(keepingCapacity: true)
        outbox.waiting = []
      }
      return (outbox.outgoing, outbox.waiting, outbox.shutdown, outbox.handler)
    }
    self.handler = handler
    if !waiting.isEmpty {
      self.waiting += waiting
      self.roomPause = Self.roomPauses.0
      self.nextRoomCheck = .now + self.roomPause
    }
    for parts in outgoing { self.send(of: parts) }
    if shutdown != self.shutdown { self.beginShutdown(shutdown) }
    if self.shutdown != .none, self.active.load(ordering: .sequentiallyConsistent) == 0, self.calls.isEmpty {
      self.closesAt = self.closesAt ?? .now + Self.farewell
    }
    return !outgoing.isEmpty
  }

  private func send(of parts: ServerCall.Parts) {
    var outgoing = parts.takeOutgoing()
    let taken = outgoing
    defer { parts.refund(taken) }
    guard let call = self.calls[parts.id] else { return }
    call.silence.store(0, ordering: .relaxed)
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
    self.transmit(frame, to: call.key.peer, isEnveloped: call.isEnveloped, of: call.peer)
  }

  private func transmit(
    _ frame: FrameCodec.Frame, to peer: ZeroMQBytes, isEnveloped: Bool, of budget: PeerBudget
  ) -> Bool {
    var header = self.headers.encode(frame.header)
    if header.count > HeaderCoder.largest {
      // The client could not take it: it gets what it needs to go on.
      var short = frame.header
      (short.metadata, short.trailingMetadata) = ([], [])
      short.statusMessage = String(short.statusMessage.prefix(1000))
      header = self.headers.encode(short)
    }
    let cost = header.count + FlowControl.cost(of: frame.messages.reduce(0) { $0 + $1.count })
    return self.socket.send(
      to: isEnveloped ? [peer, ZeroMQBytes([])] : [peer], header: header, messages: frame.messages,
      charge: cost, to: budget.queued) == 0
  }

  /// What a peer has here: that of its key, or of its connection where there is none.
  private func budget(of identity: PeerIdentity?, at connection: ZeroMQBytes) -> PeerBudget {
    let key = identity.map { PeerKey.identity($0) } ?? .connection(connection)
    if let budget = self.peers[key] { return budget }
    let budget = PeerBudget(
      name: identity?.description ?? "This connection", all: self.budget, limits: self.configuration.limits)
    self.peers[key] = budget
    if self.nextUpkeep == nil { self.nextUpkeep = .now + Self.upkeep }
    return budget
  }

  private func forget(_ call: ServerCall) {
    self.calls[call.parts.id] = nil
    self.envelopes[call.parts.id] = nil
    self.tokens[call.key] = nil
    if self.calls.isEmpty {
      self.nextDeadline = nil
      self.nextProbe = nil
      self.nextSilenceCheck = nil
      self.nextRoomCheck = nil
      self.waiting = []
    }
  }

  /// Ends a call from this side: the client gets a status, the handler is cancelled.
  private func end(_ call: ServerCall, with error: RPCError) {
    self.forget(call)
    call.abandon(error)
    self.reject(call.key, isEnveloped: call.isEnveloped, error, of: call.peer)
  }

  private func reject(
    _ key: ServerCall.Key, isEnveloped: Bool, _ error: RPCError, of budget: PeerBudget? = nil
  ) {
    let budget = budget ?? self.budget(of: nil, at: key.peer)
    guard budget.takesStatuses else { return BusMetrics.count(.refusalsDropped) }
    let status = CallPart.status(Status(code: Status.Code(error.code), message: error.message), [:])
    for frame in FrameCodec.frames(of: [status], id: key.id) {
      _ = self.transmit(frame, to: key.peer, isEnveloped: isEnveloped, of: budget)
    }
  }

  /// A peer is gone: its calls are cancelled.
  private func lose(_ peer: ZeroMQBytes) {
    for call in self.calls.values where call.key.peer == peer { self.lose(call) }
  }

  /// Connections of these descriptors have ended. A REQ socket cannot be probed: a ping would be its answer.
  private func loseEnveloped(_ ended: Set<Int32>) {
    for call in self.calls.values {
      guard let connection = call.connection, ended.contains(connection.descriptor) else { continue }
      // Where another connection has the descriptor by now, the call may be that one's.
      guard
        self.gone.contains(connection.descriptor)
          || czmq_cookie(connection.descriptor) != connection.cookie
      else { continue }
      self.lose(call)
    }
  }

  private func lose(_ call: ServerCall) {
    self.forget(call)
    BusMetrics.count(.callsCancelled)
    call.abandon(RPCError(code: .unavailable, message: "The client is gone."))
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
      if isEnveloped { self.refuseMalformed(frames, isEnveloped: true) }
      return
    }
    switch frame.header.kind {
    case .cancel:
      self.forget(call)
      BusMetrics.count(.callsCancelled)
      call.abandon(RPCError(code: .cancelled, message: "The client cancelled the call."))
    case .data, .credit:
      let isProgress =
        call.parts.grant(frame.header.credit) || !frame.messages.isEmpty || frame.header.halfClose
      // Who lets the handler's messages lie does not keep it by saying that it is there.
      if isProgress || !call.parts.isHeldUp { call.silence.store(0, ordering: .relaxed) }
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
    guard self.tokens[key] == nil else {
      BusMetrics.count(.malformed)
      // A REQ socket would wait for ever.
      guard isEnveloped else { return }
      let error = RPCError(code: .alreadyExists, message: "The call's id is that of one that is still open.")
      return self.reject(key, isEnveloped: true, error)
    }
    // ZeroMQ tells of the end of a connection before it hands over what had come on it.
    if self.gone.contains(source.connection) {
      // Another may have been accepted since this turn began.
      self.watchConnections()
      guard !self.gone.contains(source.connection) else { return BusMetrics.count(.callsCancelled) }
    }
    var peer: PeerBudget?
    do throws(RPCError) {
      let userID = source.property("User-Id")
      let identity = try self.access.caller(of: header.method, userID: userID)
      let budget = self.budget(of: identity, at: key.peer)
      peer = budget
      let descriptor = try self.accept(frame, isEnveloped: isEnveloped)
      let isPriority = self.configuration.priorityMethods.contains(header.method)
      let isUrgent = isPriority && (isEnveloped || header.halfClose && !frame.messages.isEmpty)
      let isReserved = try self.admit(budget, isPriority: isPriority, isUrgent: isUrgent)
      let token = self.nextToken
      self.nextToken += 1
      let parts = ServerCall.Parts(
        id: token, limits: self.configuration.limits,
        maxMessageBytes: self.configuration.limits.maxMessageBytes,
        budget: CallBudget(
          peer: budget, isReserved: isPriority, waitForRoom: { [weak self] in self?.waitsForRoom($0) }),
        announce: { [weak self] parts, isNew in self?.announce(parts, isNew: isNew) })
      let call = ServerCall(
        key: key, parts: parts, descriptor: descriptor, identity: identity, userID: userID, peer: budget,
        isReserved: isReserved,
        deadline: self.deadline(header, isReserved: isReserved),
        connection: isEnveloped ? (source.connection, czmq_cookie(source.connection)) : nil,
        isEnveloped: isEnveloped, hasSingleResponse: header.singleResponse)
      self.begin(call, token: token, frame)
    } catch {
      self.reject(key, isEnveloped: isEnveloped, error, of: peer)
    }
  }

  private func deadline(_ header: CallFrame, isReserved: Bool) -> ContinuousClock.Instant? {
    let asked: Duration? =
      header.timeoutNanos > 0 ? .nanoseconds(Int64(clamping: header.timeoutNanos)) : nil
    let most = isReserved ? self.configuration.limits.reservedTime : nil
    return [asked, most].compactMap { $0 }.min().map { .now + $0 }
  }

  private func begin(_ call: ServerCall, token: UInt64, _ frame: FrameCodec.Frame) {
    self.calls[token] = call
    self.tokens[call.key] = token
    if let deadline = call.deadline { self.nextDeadline = min(self.nextDeadline ?? deadline, deadline) }
    if self.nextProbe == nil { self.nextProbe = .now + Self.probe }
    if self.nextSilenceCheck == nil { self.nextSilenceCheck = .now + self.configuration.limits.idleLimit / 4 }
    call.parts.grant(frame.header.credit)
    let givesWindow = call.peer.hasRoomForWindow
    self.active.add(1, ordering: .sequentiallyConsistent)
    call.enter()
    self.deliver(frame, to: call, metadata: FrameCodec.metadata(frame.header.metadata))
    if givesWindow, !frame.header.halfClose, !call.isEnveloped {
      let credit = CallFrame(kind: .credit, callID: call.key.id, credit: UInt64(call.parts.openWindow()))
      _ = self.transmit(FrameCodec.Frame(header: credit), to: call)
    }
    self.start(call)
  }

  /// Whether a call may begin, whoever makes it.
  private func accept(_ frame: FrameCodec.Frame, isEnveloped: Bool) throws(RPCError) -> MethodDescriptor {
    guard self.shutdown == .none, self.handler != nil else {
      throw RPCError(code: .unavailable, message: "\(self.endpoint) is shutting down.")
    }
    guard let descriptor = FrameCodec.descriptor(frame.header.method) else {
      throw RPCError(
        code: .unimplemented, message: "\"\(frame.header.method)\" is no method: package.Service/Method.")
    }
    guard frame.header.metadata.count <= FrameCodec.mostEntries else {
      throw RPCError(
        code: .resourceExhausted,
        message:
          "The call's metadata has \(frame.header.metadata.count) entries; the limit is \(FrameCodec.mostEntries)."
      )
    }
    guard !isEnveloped || !frame.messages.isEmpty else {
      throw RPCError(
        code: .invalidArgument,
        message:
          "A REQ socket makes unary calls: their message comes with the header, and has_message says so.")
    }
    let limits = self.configuration.limits
    if let size = frame.messages.map(\.count).max(), size > limits.maxMessageBytes {
      BusMetrics.count(.tooLarge)
      throw Self.tooLarge(size, limits)
    }
    return descriptor
  }

  /// Whether there is room for another call of a peer.
  /// - Parameter isUrgent: a call of a priority method that came whole, so that its handler waits for nobody.
  /// - Returns: whether it takes a place that is kept for such calls.
  private func admit(_ peer: PeerBudget, isPriority: Bool, isUrgent: Bool) throws(RPCError) -> Bool {
    let limits = self.configuration.limits
    guard peer.hasShare(isReserved: isPriority) else {
      self.countRejected()
      throw RPCError(
        code: .resourceExhausted,
        message:
          "\(peer.name) has \(peer.queued.bytes) bytes here to read; the limit of one peer is \(limits.maxQueuedBytesPerPeer). Read them first."
      )
    }
    let reserved = (
      all: self.budget.reservedCalls.load(ordering: .relaxed),
      own: peer.reservedCalls.load(ordering: .relaxed)
    )
    if isUrgent, reserved.own < limits.reservedCallsPerPeer,
      FairShare.has(own: reserved.own, of: limits.reservedCalls, taken: reserved.all)
    {
      return true
    }
    let all = self.budget.calls.load(ordering: .relaxed) - reserved.all
    let own = peer.calls.load(ordering: .relaxed) - reserved.own
    if own < limits.maxOpenCallsPerPeer, FairShare.has(own: own, of: limits.maxOpenCalls, taken: all) {
      return false
    }
    self.countRejected()
    throw RPCError(
      code: .resourceExhausted,
      message: own >= limits.maxOpenCallsPerPeer
        ? "\(peer.name) has \(own) calls open; the limit of one peer is \(limits.maxOpenCallsPerPeer). End some first."
        : "\(all) calls of all peers are open, and the limit is \(limits.maxOpenCalls), of which one peer has its part. Try again later."
    )
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
    // A REQ socket cannot say more than it said.
    let isComplete = frame.header.halfClose || call.isEnveloped
    guard !parts.isEmpty || isComplete else { return }
    switch call.parts.deliver(parts, end: isComplete ? .success(()) : nil) {
    case .delivered: break
    case .beyondWindow:
      BusMetrics.count(.unreadRejected)
      let error = RPCError(code: .resourceExhausted, message: "The client sent more than it had credit for.")
      self.end(call, with: error)
    case .beyondBudget:
      BusMetrics.count(.unreadRejected)
      self.end(call, with: RPCError(code: .resourceExhausted, message: call.peer.beyondUnread))
    }
  }

  private func start(_ call: ServerCall) {
    BusMetrics.count(.callsStarted)
    guard let handler = self.handler else { return self.handlerReturned(call) }
    let serve: @Sendable () async -> Void = { [self] in
      await self.serve(call, handler)
      self.handlerReturned(call)
    }
    // A priority has threads of its own: handlers that hold all the others do not hold up a stop.
    call.started(Task(priority: call.isReserved ? .high : nil, operation: serve))
  }

  private nonisolated func serve(_ call: ServerCall, _ handler: Handler) async {
    await PeerIdentity.$current.withValue(call.identity) {
      await withServerContextRPCCancellationHandle { cancellation in
        call.entered(cancellation)
        var context = ServerContext(
          descriptor: call.descriptor, remotePeer: call.identity?.description ?? call.key.connectionName,
          localPeer: self.endpoint.description, cancellation: cancellation)
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
  }

  // MARK: Time

  private func lookAtClock() {
    guard
      self.nextDeadline != nil || self.nextProbe != nil || self.shutdown != .none || self.nextUpkeep != nil
    else { return }
    let now = ContinuousClock.now
    if let end = self.closesAt, end <= now { return self.loop.stop() }
    if let deadline = self.nextDeadline, deadline <= now { self.expire(now) }
    if let probe = self.nextProbe, probe <= now { self.probePeers(now) }
    if let check = self.nextRoomCheck, check <= now { self.wakeWriters(now) }
    if let check = self.nextSilenceCheck, check <= now { self.endSilent(now) }
    if let upkeep = self.nextUpkeep, upkeep <= now {
      self.peers = self.peers.filter { !$0.value.isUnused }
      self.nextUpkeep = self.peers.isEmpty ? nil : now + Self.upkeep
    }
    if !self.calls.isEmpty, self.access.keysChanged() { self.endRevoked() }
    if let end = self.endsBefore, end <= now {
      // Who has not returned by now does not hold up the process.
      if self.shutdown == .immediate { self.loop.stop() } else { self.shutDown(gracefully: false) }
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

  /// Where there is room again, who waited longest goes on first.
  private func wakeWriters(_ now: ContinuousClock.Instant) {
    let before = self.waiting.count
    self.waiting.removeAll { id in
      guard let call = self.calls[id] else { return true }
      guard call.parts.hasRoom else { return false }
      call.parts.wakeWriters()
      return true
    }
    self.roomPause =
      self.waiting.count < before ? Self.roomPauses.0 : min(self.roomPause * 2, Self.roomPauses.1)
    self.nextRoomCheck = self.waiting.isEmpty ? nil : now + self.roomPause
  }

  private func endSilent(_ now: ContinuousClock.Instant) {
    let limit = self.configuration.limits.idleLimit
    for call in self.calls.values where call.silence.add(1, ordering: .relaxed).newValue > 4 {
      BusMetrics.count(.callsIdle)
      self.end(
        call,
        with: RPCError(
          code: .deadlineExceeded,
          message:
            "Nobody said anything on the call for \(limit). A client that waits sends an empty CREDIT frame now and then."
        ))
    }
    self.nextSilenceCheck = self.calls.isEmpty ? nil : now + limit / 4
  }

  private func endRevoked() {
    for call in self.calls.values
    where !self.access.stillAllows(
      call.descriptor.fullyQualifiedMethod, to: call.identity, userID: call.userID)
    {
      BusMetrics.count(.revoked)
      self.end(
        call, with: RPCError(code: .unauthenticated, message: "The key is not authorized any more."))
    }
  }

  /// ROUTER tells that a peer is gone only when something is sent to it.
  private func probePeers(_ now: ContinuousClock.Instant) {
    let ping = FrameCodec.Frame(header: CallFrame(kind: .ping))
    // A REQ socket would take the ping for its answer.
    let peers = self.calls.values.lazy.filter { !$0.isEnveloped }.map { ($0.key.peer, $0.peer) }
    for (peer, budget) in Dictionary(peers, uniquingKeysWith: { first, _ in first })
    where budget.takesStatuses && !self.transmit(ping, to: peer, isEnveloped: false, of: budget) {
      self.lose(peer)
    }
    self.nextProbe =
      self.calls.isEmpty ? nil : now + (self.access.hasKeys ? AccessControl.interval : Self.probe)
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
