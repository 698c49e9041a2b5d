/// Bounds of what calls may take. A peer is a key, whatever its connections; without keys it is a connection.
public struct CallLimits: Sendable, Hashable {
  /// Bytes of the largest message, in both directions.
  public var maxMessageBytes = SocketLimits.callMessage
  /// Bytes per call and direction that wait at the receiver until it reads; see ``FlowControl``.
  public var windowBytes = 4 << 20
  /// Calls that a server has open at once, of all peers; more are RESOURCE_EXHAUSTED. A peer may have as many of three quarters
  /// as are left for all others; the last quarter is for those that have none.
  public var maxOpenCalls = 4096
  /// Calls that a server has open at once of one peer.
  public var maxOpenCallsPerPeer = 256
  /// Places for calls of priority methods that come whole, of all peers; they run before others. Beyond them such a call is one
  /// as any other. A peer may have as many of three quarters as are left for all others, here too.
  public var reservedCalls = 64
  /// And for one peer.
  public var reservedCallsPerPeer = 8
  /// A call in such a place has this long: one that does not end must not keep a stop out.
  public var reservedTime: Duration = .seconds(10)
  /// Bytes that a server holds for a peer that does not read them; then the handlers that write to it wait.
  public var maxQueuedBytesPerPeer = 64 << 20
  /// And for all peers.
  public var maxQueuedBytes = 512 << 20
  /// Bytes of a peer's messages that handlers have not dealt with; then further ones end their call with RESOURCE_EXHAUSTED.
  /// Credit allows less, see ``PeerBudget/hasRoomForWindow``; what comes on one connection is bounded above it in `CPoller.h`.
  public var maxUnreadBytesPerPeer = 256 << 20
  /// And of all peers.
  public var maxUnreadBytes = 512 << 20
  /// A call on which neither side says anything for so long, or whose messages the client leaves unread for so long, is ended
  /// with DEADLINE_EXCEEDED, at the latest after another quarter of it. A client says five times in that long that it wants its
  /// calls still.
  public var idleLimit: Duration = .seconds(300)

  public init() {}
}

/// Credit-based flow control: the arithmetic, without I/O.
///
/// The sender may send while its credit is above zero, and each message costs its bytes and ``overhead``: a
/// message larger than the credit still goes, once, so that a window never forbids a size. The receiver gives back
/// what its reader consumed, in steps of a quarter of what it gave in all, so that the sender never waits for a step
/// that cannot come.
struct FlowControl: Sendable, Hashable {
  /// Credit of both sides at the start of a call, bytes.
  static let initialCredit = 256 << 10
  /// No step of giving back is larger, and no cut of what a peer gives is smaller: a peer's window may be larger than
  /// this side's.
  static let largestStep = 1 << 20
  /// What an empty message costs, so that messages of no bytes are bounded too.
  static let overhead = 64

  static func cost(of messageBytes: Int) -> Int { messageBytes + Self.overhead }

  /// What this side may still send.
  private(set) var credit = Self.initialCredit
  /// What the reader consumed since credit was last given back.
  private var consumed = 0
  /// What the other side may have under way.
  private var given = Self.initialCredit
  private let window: Int

  init(window: Int) { self.window = max(window, Self.initialCredit) }

  /// Gives the other side the whole window.
  /// - Returns: the credit beyond what it has already.
  mutating func open() -> Int {
    defer { self.given = self.window }
    return self.window - self.given
  }

  var maySend: Bool { self.credit > 0 }

  mutating func sent(bytes: Int) { self.credit -= Self.cost(of: bytes) }

  /// A peer may give what it likes: no more counts than a window.
  mutating func granted(_ amount: UInt64) {
    let most = max(self.window, 2 * Self.largestStep)
    self.credit = min(most, self.credit + Int(clamping: min(amount, UInt64(Int32.max))))
  }

  /// - Returns: credit to give back now, or nil while too little was consumed to be worth a frame.
  mutating func consumed(bytes: Int) -> Int? {
    self.consumed += Self.cost(of: bytes)
    guard self.consumed >= min(self.given / 4, Self.largestStep) else { return nil }
    defer { self.consumed = 0 }
    return self.consumed
  }
}
