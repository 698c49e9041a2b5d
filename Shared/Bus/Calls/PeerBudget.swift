import CZeroMQ
import Schemas
import Synchronization

/// Whose calls count together.
enum PeerKey: Hashable, Sendable {
  /// A key, whatever its connections.
  case identity(PeerIdentity)
  /// A connection, where there are no keys; its routing id.
  case connection(ZeroMQBytes)
}

/// What all peers of a server make it hold.
final class ServerBudget: Sendable {
  /// Bytes that wait until peers read them.
  let queued = ByteAccount()
  /// Bytes of peers' messages that handlers have not dealt with.
  let unread = ByteAccount()
  /// As those of a ``PeerBudget``.
  let calls = Atomic<Int>(0)
  let reservedCalls = Atomic<Int>(0)
}

/// What one peer makes a server hold. Each may take a share; what all may take together is bounded besides, but for the
/// first ``floor`` bytes of each: a peer that has nothing yet is never shut out.
final class PeerBudget: Sendable {
  /// For messages: "robot/r1".
  let name: String
  let queued: ByteAccount
  let unread: ByteAccount
  let all: ServerBudget
  private let limits: CallLimits
  /// Calls whose handlers have neither given a status nor returned.
  let calls = Atomic<Int>(0)
  /// And of them those in reserved room.
  let reservedCalls = Atomic<Int>(0)

  /// What a peer may have although all together have too much, and beyond its share for priority methods and statuses.
  static let floor = FlowControl.initialCredit + FlowControl.overhead

  init(name: String, all: ServerBudget, limits: CallLimits) {
    self.name = name
    self.all = all
    self.limits = limits
    self.queued = ByteAccount(in: all.queued)
    self.unread = ByteAccount(in: all.unread)
  }

  /// Whether more may be queued: one message of any size fits while there is room at all, as with credit.
  /// - Parameter isReserved: for priority methods and statuses, which have room of their own.
  func hasRoom(isReserved: Bool) -> Bool {
    self.queued.bytes < Self.floor
      || self.hasShare(isReserved: isReserved)
        && (isReserved || self.all.queued.bytes < self.limits.maxQueuedBytes)
  }

  /// Whether the peer itself may have more queued, whatever all have.
  func hasShare(isReserved: Bool) -> Bool {
    self.queued.bytes < max(Self.floor, self.limits.maxQueuedBytesPerPeer + (isReserved ? Self.floor : 0))
  }

  /// Whether statuses may still be queued. A peer that reads gets each; one that does not cannot fill memory with refusals.
  var takesStatuses: Bool { self.queued.bytes < self.limits.maxQueuedBytesPerPeer + 2 * Self.floor }

  /// Whether the peer may send `bytes` more. A peer's first message may be larger than its share; the last eighth of what all
  /// may leave is for first messages, so that those who have much do not shut out who has nothing.
  func mayLeaveUnread(_ bytes: Int) -> Bool {
    let unread = self.unread.bytes
    if unread + bytes <= Self.floor { return true }
    let isFirst = unread == 0
    let most = self.limits.maxUnreadBytes
    return (isFirst || unread + bytes <= self.limits.maxUnreadBytesPerPeer)
      && self.all.unread.bytes + bytes <= (isFirst ? most : most - most / 8)
  }

  /// Whether another call may have the whole window, so that a peer that keeps to its credit never meets its limit.
  ///
  /// Credit of `c` makes a server hold up to `2c`: a message of `c` bytes that the handler has, and as much that waits, since
  /// credit came back with the first. Of `n` calls that a peer may have, `w` with a window `W` and the others with the initial
  /// credit `i`, beside one message of the largest size `M`, which may go on the last byte of credit:
  /// `2wW + 2(n - w)i + M <= limit`. By default `2·12·4 + 2·252·¼ + 32 = 254` of 256 MiB, so that 12 calls have a window.
  /// Larger messages than credit covers, in several calls at a time, may meet the limit.
  var hasRoomForWindow: Bool {
    let windows = self.calls.load(ordering: .relaxed) + 1
    let others = max(0, self.limits.maxOpenCallsPerPeer + self.limits.reservedCallsPerPeer - windows)
    let window = max(self.limits.windowBytes, FlowControl.initialCredit)
    return 2 * windows * window + 2 * others * FlowControl.initialCredit + self.limits.maxMessageBytes
      <= self.limits.maxUnreadBytesPerPeer
      && self.all.unread.bytes < self.limits.maxUnreadBytes / 2
  }

  /// Nothing of the peer is here any more.
  var isUnused: Bool {
    self.calls.load(ordering: .relaxed) == 0 && self.queued.bytes == 0 && self.unread.bytes == 0
  }

  var beyondUnread: String {
    self.unread.bytes < self.limits.maxUnreadBytesPerPeer / 2
      ? "All peers together have \(self.all.unread.bytes) bytes here that are not dealt with, near the limit of \(self.limits.maxUnreadBytes): try again later."
      : "\(self.name) has \(self.unread.bytes) bytes here that are not dealt with, near its limit of \(self.limits.maxUnreadBytesPerPeer): send in fewer calls at a time."
  }
}

/// One call's part in its peer's budget.
struct CallBudget: Sendable {
  let peer: PeerBudget
  let isReserved: Bool
  /// Tells the loop that a writer waits for room.
  let waitForRoom: @Sendable (_ call: UInt64) -> Void

  var hasRoom: Bool { self.peer.hasRoom(isReserved: self.isReserved) }

  func charge(queued bytes: Int) -> Bool {
    guard self.hasRoom else { return false }
    self.peer.queued.add(bytes)
    return true
  }

  func refund(queued bytes: Int) { self.peer.queued.add(-bytes) }

  func charge(unread bytes: Int) -> Bool {
    guard self.peer.mayLeaveUnread(bytes) else { return false }
    self.peer.unread.add(bytes)
    return true
  }

  func refund(unread bytes: Int) { if bytes != 0 { self.peer.unread.add(-bytes) } }
}
