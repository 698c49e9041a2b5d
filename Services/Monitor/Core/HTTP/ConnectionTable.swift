import NIOCore

/// Who is connected, as a value: makes room for a new connection at the cost of whoever holds the most without using it.
struct ConnectionTable {
  typealias ID = ObjectIdentifier

  private struct Entry {
    var address: String
    /// Grows with each connection and each request.
    var lastUse: UInt64
  }

  private let capacity: Int
  private var entries: [ID: Entry] = [:]
  private var uses: UInt64 = 0

  init(capacity: Int) { self.capacity = capacity }

  var count: Int { self.entries.count }

  /// Takes a connection in.
  /// - Parameter address: the peer's, without its port.
  /// - Returns: the connection that has to be closed for it.
  mutating func add(_ id: ID, address: String) -> ID? {
    let victim = self.entries.count < self.capacity ? nil : self.leastUseful
    if let victim { self.entries[victim] = nil }
    self.uses += 1
    self.entries[id] = Entry(address: address, lastUse: self.uses)
    return victim
  }

  /// Notes a request.
  mutating func use(_ id: ID) {
    self.uses += 1
    self.entries[id]?.lastUse = self.uses
  }

  mutating func remove(_ id: ID) { self.entries[id] = nil }

  /// Of the address with the most connections the one that was used least lately.
  private var leastUseful: ID? {
    let counts = self.entries.values.reduce(into: [String: Int]()) { $0[$1.address, default: 0] += 1 }
    return self.entries.min { a, b in
      let (countA, countB) = (counts[a.value.address] ?? 0, counts[b.value.address] ?? 0)
      return countA != countB ? countA > countB : a.value.lastUse < b.value.lastUse
    }?.key
  }
}
