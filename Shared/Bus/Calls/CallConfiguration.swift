/// Bounds of what calls may take.
public struct CallLimits: Sendable, Hashable {
  /// Bytes of the largest message, in both directions.
  public var maxMessageBytes = 64 << 20
  /// Calls that a server has open at once; more are RESOURCE_EXHAUSTED.
  public var maxOpenCalls = 1024
  /// Bytes per call and direction that wait at the receiver until it reads; see ``FlowControl``.
  public var windowBytes = 4 << 20

  public init() {}
}

/// Credit-based flow control: the arithmetic, without I/O.
///
/// The sender may send while its credit is above zero, and each message costs its bytes and ``overhead``: a
/// message larger than the credit still goes, once, so that a window never forbids a size. The receiver gives back
/// what its reader consumed.
struct FlowControl: Sendable, Hashable {
  /// Credit of both sides at the start of a call, bytes.
  static let initialCredit = 256 << 10
  /// What an empty message costs, so that messages of no bytes are bounded too.
  static let overhead = 64

  static func cost(of messageBytes: Int) -> Int { messageBytes + Self.overhead }

  /// What this side may still send.
  private(set) var credit = Self.initialCredit
  /// What the reader consumed since credit was last given back.
  private var consumed = 0
  private let window: Int

  init(window: Int) { self.window = max(window, Self.initialCredit) }

  /// Credit beyond the initial one that this side gives at the start.
  var openingGrant: Int { self.window - Self.initialCredit }

  var maySend: Bool { self.credit > 0 }

  mutating func sent(bytes: Int) { self.credit -= Self.cost(of: bytes) }

  mutating func granted(_ amount: UInt64) {
    // A hostile peer's grant must not overflow.
    self.credit += Int(clamping: min(amount, 1 << 40))
    self.credit = min(self.credit, 1 << 40)
  }

  /// - Returns: credit to give back now, or nil while too little was consumed to be worth a frame.
  mutating func consumed(bytes: Int) -> Int? {
    self.consumed += Self.cost(of: bytes)
    guard self.consumed >= self.window / 4 else { return nil }
    defer { self.consumed = 0 }
    return self.consumed
  }
}
