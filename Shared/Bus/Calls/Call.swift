import DequeModule
import GRPCCore
import Synchronization

/// What a side of a call has to say to the other.
enum CallPart: Sendable {
  case metadata(Metadata)
  case message(ZeroMQBytes)
  case halfClose
  case status(Status, Metadata)
  case cancel
  case credit(Int)
}

/// A part that a side of a call hears: `RPCRequestPart` or `RPCResponsePart`.
protocol InboundPart: Sendable {
  /// The message, if it is one: what flow control counts.
  var messageBytes: Int? { get }
}

extension RPCRequestPart<ZeroMQBytes>: InboundPart {
  var messageBytes: Int? { if case .message(let bytes) = self { bytes.count } else { nil } }
}

extension RPCResponsePart<ZeroMQBytes>: InboundPart {
  var messageBytes: Int? { if case .message(let bytes) = self { bytes.count } else { nil } }
}

/// One side of one call, between the tasks that read and write it and the loop that carries it.
///
/// Tasks leave parts in `outgoing` and tell the loop; the loop leaves parts in `inbound` and resumes the reader. A
/// lock and two queues a call: nothing else is touched for a message.
final class Call<Inbound: InboundPart>: Sendable {
  let id: UInt64
  /// The largest message that may be written.
  let maxMessageBytes: Int
  private let window: Int
  /// Tells the loop that the call has something to send: `isNew` where the loop does not know yet.
  typealias Announcement = @Sendable (_ call: Call<Inbound>, _ isNew: Bool) -> Void
  private let announce: Announcement
  /// What the peer may make this side hold; nil on the client's side, which chose its server.
  private let budget: CallBudget?

  private struct State {
    var flow: FlowControl
    /// Of the messages that were handed over: what the peer is charged with until the reader has dealt with them.
    var charged = 0
    /// Of the message that the reader has now.
    var held = 0
    var isReleased = false
    var outgoing: [CallPart] = []
    var isQueued = false
    /// Why nothing more may be written.
    var writeError: RPCError?
    var writers: Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)> = []
    var nextWriter: UInt64 = 0
    var inbound: Deque<Inbound> = []
    /// What waits in `inbound`, as flow control counts it.
    var waiting = 0
    /// Set when nothing more will arrive.
    var end: Result<Void, RPCError>?
    var reader: CheckedContinuation<Void, Never>?
  }
  private let state: Mutex<State>

  init(
    id: UInt64, limits: CallLimits, maxMessageBytes: Int, budget: CallBudget? = nil,
    announce: @escaping Announcement
  ) {
    self.id = id
    self.maxMessageBytes = maxMessageBytes
    self.window = max(limits.windowBytes, FlowControl.initialCredit)
    self.announce = announce
    self.budget = budget
    self.state = Mutex(State(flow: FlowControl(window: limits.windowBytes)))
  }

  // MARK: Writing, any task

  /// Leaves a part for the loop; a message waits for credit, and for room among what waits for the peer.
  /// - Parameter now: false where another part is sure to follow, which takes this one along: the loop is not told yet, so that
  ///   what is one frame goes as one.
  /// - Throws: `RPCError` where the call has ended, the message is too large or the task was cancelled.
  func write(_ part: CallPart, now: Bool = true) async throws {
    guard case .message(let bytes) = part else {
      return try self.append(part, now: now)
    }
    guard bytes.count <= self.maxMessageBytes else {
      throw RPCError(
        code: .resourceExhausted,
        message: "The message has \(bytes.count) bytes; the limit is \(self.maxMessageBytes).")
    }
    while true {
      let outcome: Result<Bool, RPCError> = self.state.withLock { state in
        if let error = state.writeError { return .failure(error) }
        guard state.flow.maySend, self.budget?.charge(queued: FlowControl.cost(of: bytes.count)) ?? true
        else {
          return .success(false)
        }
        state.flow.sent(bytes: bytes.count)
        state.outgoing.append(part)
        return .success(true)
      }
      if try outcome.get() { return self.tellLoop(now: now) }
      try await self.waitForCredit()
    }
  }

  private func append(_ part: CallPart, now: Bool) throws(RPCError) {
    let error: RPCError? = self.state.withLock { state in
      if let error = state.writeError { return error }
      state.outgoing.append(part)
      switch part {
      case .halfClose:
        state.writeError = RPCError(code: .failedPrecondition, message: "The writer was finished.")
      case .status:
        state.writeError = RPCError(code: .failedPrecondition, message: "The call has its status.")
      default: break
      }
      return nil
    }
    if let error { throw error }
    self.tellLoop(now: now)
  }

  private func tellLoop(now: Bool) {
    guard now else { return }
    let wasQueued = self.state.withLock { state in
      defer { state.isQueued = true }
      return state.isQueued
    }
    self.announce(self, !wasQueued)
  }

  private func waitForCredit() async throws {
    let id = self.state.withLock { state in
      defer { state.nextWriter += 1 }
      return state.nextWriter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let (goOn, needsRoom) = self.state.withLock { state in
          let needsRoom = state.flow.maySend && !self.hasRoom
          if state.flow.maySend && !needsRoom || state.writeError != nil || Task.isCancelled {
            return (true, false)
          }
          state.writers.append((id, continuation))
          return (false, needsRoom)
        }
        if goOn { continuation.resume() } else if needsRoom { self.budget?.waitForRoom(self.id) }
      }
    } onCancel: {
      let continuation = self.state.withLock { state in
        state.writers.firstIndex { $0.id == id }.map { state.writers.remove(at: $0).continuation }
      }
      continuation?.resume()
    }
    if Task.isCancelled { throw RPCError(code: .cancelled, message: "The writing task was cancelled.") }
  }

  /// The parts to send, in order, with the reader's credit if it is due. They stay charged until ``refund(_:)``, so that no
  /// writer takes their room before the socket charges them anew.
  func takeOutgoing() -> [CallPart] {
    self.state.withLock { state in
      state.isQueued = false
      defer { state.outgoing = [] }
      return state.outgoing
    }
  }

  /// Gives back the room of parts that were taken, or dropped.
  func refund(_ parts: [CallPart]) {
    guard let budget else { return }
    let bytes = parts.reduce(0) { bytes, part in
      if case .message(let message) = part { bytes + FlowControl.cost(of: message.count) } else { bytes }
    }
    if bytes > 0 { budget.refund(queued: bytes) }
  }

  /// Whether more may wait for the peer.
  var hasRoom: Bool { self.budget?.hasRoom ?? true }

  /// There is room again, or there may be: who waits for it looks.
  func wakeWriters() {
    let writers = self.state.withLock { state in
      defer { state.writers = [] }
      return state.writers
    }
    for writer in writers { writer.continuation.resume() }
  }

  /// Whether a message waits for the loop.
  var hasMessageToSend: Bool {
    self.state.withLock { $0.outgoing.contains { if case .message = $0 { true } else { false } } }
  }

  /// The loop cannot send now and knows that it must come back.
  func keepOutgoing() { self.state.withLock { $0.isQueued = true } }

  // MARK: Reading, one task

  private enum ReadOutcome { case part(Inbound, credit: Bool), end(Result<Void, RPCError>), wait }

  /// - Returns: the next part; nil after the last.
  /// - Throws: `RPCError` where the call broke, `CancellationError` where the task was cancelled.
  func next() async throws -> Inbound? {
    while true {
      let outcome: ReadOutcome = self.state.withLock { state in
        if let part = state.inbound.popFirst() {
          guard let bytes = part.messageBytes else { return .part(part, credit: false) }
          state.waiting -= FlowControl.cost(of: bytes)
          self.dealtWith(&state, next: FlowControl.cost(of: bytes))
          guard state.end == nil, let credit = state.flow.consumed(bytes: bytes) else {
            return .part(part, credit: false)
          }
          state.outgoing.append(.credit(credit))
          return .part(part, credit: true)
        }
        return state.end.map { .end($0) } ?? .wait
      }
      switch outcome {
      case .part(let part, let credit):
        if credit { self.tellLoop(now: true) }
        return part
      case .end(let end):
        try end.get()
        return nil
      case .wait:
        try Task.checkCancellation()
        await self.waitForPart()
      }
    }
  }

  /// The reader asks for another message, so it has dealt with the one before.
  private func dealtWith(_ state: inout State, next: Int) {
    guard let budget, !state.isReleased else { return }
    budget.refund(unread: state.held)
    state.charged -= state.held
    state.held = next
  }

  /// The reader is gone, and with it all that it had or had not read.
  func release() {
    guard let budget else { return }
    let charged = self.state.withLock { state in
      defer { (state.charged, state.held, state.isReleased) = (0, 0, true) }
      return state.charged
    }
    budget.refund(unread: charged)
  }

  private func waitForPart() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goOn = self.state.withLock { state in
          if !state.inbound.isEmpty || state.end != nil || Task.isCancelled { return true }
          state.reader = continuation
          return false
        }
        if goOn { continuation.resume() }
      }
    } onCancel: {
      let reader = self.state.withLock { $0.reader.take() }
      reader?.resume()
    }
  }

  // MARK: The loop's side

  enum Delivery { case delivered, beyondWindow, beyondBudget }

  /// Hands parts to the reader.
  /// - Parameter end: the reader gets no more after them.
  /// - Returns: why nothing was handed over, where the peer sent more than it had credit for or more than may wait of it.
  @discardableResult
  func deliver(_ parts: [Inbound], end: Result<Void, RPCError>? = nil) -> Delivery {
    let (delivery, reader) = self.state.withLock { state in
      guard state.end == nil else { return (Delivery.delivered, nil as CheckedContinuation<Void, Never>?) }
      let cost = parts.reduce(0) { $0 + ($1.messageBytes.map(FlowControl.cost) ?? 0) }
      // A sender whose credit is not used up may send one message of any size.
      guard cost == 0 || state.waiting <= self.window else { return (.beyondWindow, nil) }
      if let budget, cost > 0, !state.isReleased {
        guard budget.charge(unread: cost) else { return (.beyondBudget, nil) }
        state.charged += cost
      }
      state.waiting += cost
      state.inbound.append(contentsOf: parts)
      state.end = end
      return (.delivered, state.reader.take())
    }
    reader?.resume()
    return delivery
  }

  /// - Returns: whether a writer may go on that could not for lack of credit.
  @discardableResult
  func grant(_ amount: UInt64) -> Bool {
    guard amount > 0 else { return false }
    let (writers, helps) = self.state.withLock {
      state -> (Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)>, Bool) in
      let could = state.flow.maySend
      state.flow.granted(amount)
      guard state.flow.maySend else { return ([], false) }
      defer { state.writers = [] }
      return (state.writers, !could)
    }
    for writer in writers { writer.continuation.resume() }
    return helps
  }

  /// Whether a writer waits for the peer to read.
  var isHeldUp: Bool { self.state.withLock { !$0.writers.isEmpty } }

  /// Gives the peer the whole window.
  /// - Returns: the credit beyond the initial one, for a frame.
  func openWindow() -> Int { self.state.withLock { $0.flow.open() } }

  /// No more can be written: writers get `error`.
  func stopWriting(_ error: RPCError) {
    let writers = self.state.withLock { state in
      if state.writeError == nil { state.writeError = error }
      defer { state.writers = [] }
      return state.writers
    }
    for writer in writers { writer.continuation.resume() }
  }

  var hasEnded: Bool { self.state.withLock { $0.end != nil } }

  /// Ends the call from the client's side: whatever was not sent is not needed any more.
  func cancel(_ error: RPCError) {
    let isOver = self.state.withLock { state in
      if state.end != nil { return true }
      state.outgoing.append(.cancel)
      return false
    }
    self.stopWriting(error)
    self.deliver([], end: .failure(error))
    if !isOver { self.tellLoop(now: true) }
  }

  /// Breaks both directions. What waits to be sent is dropped.
  func fail(_ error: RPCError) {
    self.stopWriting(error)
    let dropped = self.state.withLock { state in
      defer { state.outgoing = [] }
      return state.outgoing
    }
    self.refund(dropped)
    self.deliver([], end: .failure(error))
  }
}

/// A call's parts as a sequence; for one iterator.
struct CallParts<Inbound: InboundPart>: AsyncSequence, Sendable {
  let call: Call<Inbound>

  func makeAsyncIterator() -> Iterator { Iterator(call: self.call) }

  struct Iterator: AsyncIteratorProtocol {
    let call: Call<Inbound>

    mutating func next() async throws -> Inbound? { try await self.call.next() }

    mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Inbound? {
      try await self.call.next()
    }
  }
}
