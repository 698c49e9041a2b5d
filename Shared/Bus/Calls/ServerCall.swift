import GRPCCore
import Schemas
import Synchronization

/// A call as its server sees it.
final class ServerCall: Sendable {
  typealias Parts = Call<RPCRequestPart<ZeroMQBytes>>

  /// Which peer's call it is, and which of its calls.
  struct Key: Hashable, Sendable {
    let peer: ZeroMQBytes
    let id: UInt64

    /// What a handler tells connections without keys apart by.
    var connectionName: String {
      "connection " + self.peer.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
  }

  let key: Key
  let parts: Parts
  let descriptor: MethodDescriptor
  let identity: PeerIdentity?
  /// The connection's key, as it proved to have it.
  let userID: String?
  /// What its peer has here.
  let peer: PeerBudget
  /// Whether it has a place in the room that is kept for priority methods.
  let isReserved: Bool
  /// Times that the loop looked and nobody had said anything since.
  let silence = Atomic<Int>(0)
  private let isAnswered = Atomic(false)
  let deadline: ContinuousClock.Instant?
  /// Of a REQ socket, which nobody can ask whether it is still there: its descriptor here, and what no other is known by.
  let connection: (descriptor: Int32, cookie: UInt64)?
  /// A REQ socket asked: it gets one frame, with everything.
  let isEnveloped: Bool
  let hasSingleResponse: Bool

  private struct Handles {
    var task: Task<Void, Never>?
    var cancellation: ServerContext.RPCCancellationHandle?
    var isCancelled = false
    var isAsked = false
  }
  private let handles = Mutex(Handles())

  init(
    key: Key, parts: Parts, descriptor: MethodDescriptor, identity: PeerIdentity?, userID: String?,
    peer: PeerBudget, isReserved: Bool, deadline: ContinuousClock.Instant?,
    connection: (descriptor: Int32, cookie: UInt64)?, isEnveloped: Bool, hasSingleResponse: Bool
  ) {
    self.key = key
    self.parts = parts
    self.descriptor = descriptor
    self.identity = identity
    self.userID = userID
    self.peer = peer
    self.isReserved = isReserved
    self.deadline = deadline
    self.connection = connection
    self.isEnveloped = isEnveloped
    self.hasSingleResponse = hasSingleResponse
  }

  /// The handler is about to run.
  func enter() { self.count(1) }

  /// The handler has its status to say: a client that hears it may begin its next call before the handler returns.
  func answers() { if !self.isAnswered.exchange(true, ordering: .relaxed) { self.count(-1) } }

  /// The handler has returned: nothing of the call is here any more.
  func leave() {
    self.parts.release()
    self.answers()
  }

  private func count(_ change: Int) {
    self.peer.calls.add(change, ordering: .relaxed)
    self.peer.all.calls.add(change, ordering: .relaxed)
    guard self.isReserved else { return }
    self.peer.reservedCalls.add(change, ordering: .relaxed)
    self.peer.all.reservedCalls.add(change, ordering: .relaxed)
  }

  func started(_ task: Task<Void, Never>) {
    let isCancelled = self.handles.withLock { handles in
      handles.task = task
      return handles.isCancelled
    }
    if isCancelled { task.cancel() }
  }

  func entered(_ cancellation: ServerContext.RPCCancellationHandle) {
    let isAsked = self.handles.withLock { handles in
      handles.cancellation = cancellation
      return handles.isAsked
    }
    if isAsked { cancellation.cancel() }
  }

  /// Tells the handler, if it listens, that the call should come to its end.
  func askToEnd() {
    let cancellation = self.handles.withLock { handles in
      handles.isAsked = true
      return handles.cancellation
    }
    cancellation?.cancel()
  }

  /// Cancels the handler's task: nobody waits for its answer any more.
  func abandon(_ error: RPCError) {
    self.parts.fail(error)
    self.askToEnd()
    let task = self.handles.withLock { handles in
      handles.isCancelled = true
      return handles.task
    }
    task?.cancel()
  }
}

/// Writes a call's response.
struct ServerWriter: ClosableRPCWriterProtocol {
  typealias Element = RPCResponsePart<ZeroMQBytes>

  let call: ServerCall

  func write(_ element: Element) async throws {
    // What is one frame anyway waits for its last part.
    let now = !self.call.isEnveloped && !self.call.hasSingleResponse
    switch element {
    case .metadata(let metadata): try await self.call.parts.write(.metadata(metadata), now: now)
    case .message(let bytes): try await self.call.parts.write(.message(bytes), now: now)
    case .status(let status, let metadata):
      self.call.answers()
      try await self.call.parts.write(.status(status, metadata))
    }
  }

  func write(contentsOf elements: some Sequence<Element>) async throws {
    for element in elements { try await self.write(element) }
  }

  func finish() async {
    await self.end(Status(code: .unknown, message: "The handler ended without a status."))
  }

  func finish(throwing error: any Error) async {
    let error = error as? RPCError
    await self.end(
      Status(
        code: error.map { Status.Code($0.code) } ?? .unknown,
        message: error?.message ?? "The handler failed."))
  }

  /// A call that has its status already keeps it.
  private func end(_ status: Status) async {
    self.call.answers()
    try? await self.call.parts.write(.status(status, [:]))
  }
}
