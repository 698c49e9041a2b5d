/// What the open connections of a publisher subscribe to; no I/O.
///
/// ZeroMQ keeps subscriptions in a tree that takes some 20 bytes for each of theirs, and has no bound of its own.
struct SubscriptionTable: Sendable {
  /// Topics and their bytes, of one peer or all.
  struct Amount: Sendable, Hashable {
    var count = 0
    var bytes = 0

    func exceeds(_ limit: Amount) -> Bool { self.count > limit.count || self.bytes > limit.bytes }
  }

  private struct Connection: Sendable {
    /// What the system knows it by: its descriptor may be another's at any time.
    let cookie: UInt64
    /// Its key; nil without keys, and until it subscribes.
    var userID: String?
    /// As ZeroMQ has them: who subscribes twice has one, and who ends what it never had ends nothing.
    var topics: Set<[UInt8]> = []
    var bytes = 0
    /// It is being ended: what it says counts no longer.
    var isOver = false
  }

  private let perPeer: Amount
  private let inAll: Amount
  private(set) var total = Amount()
  /// By descriptor.
  private var connections: [Int32: Connection] = [:]

  init(perPeer: Amount, inAll: Amount) {
    self.perPeer = perPeer
    self.inAll = inAll
  }

  var isEmpty: Bool { self.connections.isEmpty }

  func isOpen(_ connection: Int32) -> Bool { self.connections[connection] != nil }

  mutating func open(_ connection: Int32, cookie: UInt64) {
    self.close(connection)
    self.connections[connection] = Connection(cookie: cookie)
  }

  /// What the system knows a connection by that must end; nil where it is not there any more.
  func cookieOfEnd(_ connection: Int32) -> UInt64? {
    self.connections[connection].flatMap { $0.isOver ? $0.cookie : nil }
  }

  /// The connection is gone, and its descriptor may be another's soon.
  mutating func close(_ connection: Int32) {
    self.clear(connection)
    self.connections[connection] = nil
  }

  /// What was under way on a connection that is not open any more counts for nothing.
  /// - Returns: false where the peer, a key or without keys a connection, has more than it may: its connection must end.
  mutating func subscribe(_ connection: Int32, userID: String?, to topic: [UInt8]) -> Bool {
    guard let known = self.connections[connection], !known.isOver else { return true }
    // What was on its way of the one that had the descriptor before.
    if known.userID != userID { self.clear(connection) }
    self.connections[connection]?.userID = userID
    guard self.connections[connection]?.topics.insert(topic).inserted == true else { return true }
    self.connections[connection]?.bytes += topic.count
    self.total.count += 1
    self.total.bytes += topic.count
    guard self.amount(of: connection, userID).exceeds(self.perPeer) || self.total.exceeds(self.inAll) else {
      return true
    }
    self.end(connection)
    return false
  }

  mutating func unsubscribe(_ connection: Int32, from topic: [UInt8]) {
    guard self.connections[connection]?.topics.remove(topic) != nil else { return }
    self.connections[connection]?.bytes -= topic.count
    self.total.count -= 1
    self.total.bytes -= topic.count
  }

  /// - Returns: the connections whose key is not among those that are trusted, which must end.
  mutating func revoked(_ isTrusted: (String) -> Bool) -> [Int32] {
    let revoked = self.connections.filter { !$0.value.isOver && $0.value.userID.map(isTrusted) == false }
    for connection in revoked.keys { self.end(connection) }
    return revoked.keys.sorted()
  }

  private func amount(of connection: Int32, _ userID: String?) -> Amount {
    self.connections.reduce(into: Amount()) { sum, other in
      guard userID.map({ $0 == other.value.userID }) ?? (other.key == connection) else { return }
      sum.count += other.value.topics.count
      sum.bytes += other.value.bytes
    }
  }

  private mutating func end(_ connection: Int32) {
    self.clear(connection)
    self.connections[connection]?.isOver = true
  }

  private mutating func clear(_ connection: Int32) {
    guard let known = self.connections[connection] else { return }
    self.total.count -= known.topics.count
    self.total.bytes -= known.bytes
    self.connections[connection]?.topics = []
    self.connections[connection]?.bytes = 0
  }
}
