import CZeroMQ
import Foundation
import Schemas
import Testing

@testable import Bus

// Serialized: the counter is the process's.
@Suite("Subscriptions of one peer", .serialized, .timeLimit(.minutes(5)))
struct SubscriptionTests {
  /// Of a publisher whose peers may have 50 topics; two peers with keys, where there are keys.
  private func cutsOff(keys: TestKeys?, _ topics: [[UInt8]]) async throws {
    var configuration = Publisher.Configuration()
    configuration.maxSubscriptionsPerPeer = 50
    configuration.maxSubscribedBytesPerPeer = 20_000
    // Known before the publisher reads its folder: a raw peer that is turned away first would not subscribe again, since
    // ZeroMQ does so only when its socket is used.
    let peers = try ["r1", "r2"].map { try keys?.peer($0, .robot) ?? .none }
    let publisher = try Publisher(
      .bind(Endpoint("tcp://127.0.0.1:*")), identity: "p",
      security: keys.map { try .curve($0.server) } ?? .none, configuration: configuration)
    let endpoint = try await publisher.boundEndpoint
    let subscriber = try Subscriber(.connect([endpoint]), topics: ["a"], security: peers[0])
    try await TopicTests.connect(publisher, subscriber, "a/b")
    let before = counted(.subscriptionsRefused)
    let greedy = try RawPeer(.subscribe, to: endpoint, security: peers[1])
    for topic in topics { try greedy.subscribe(topic) }
    #expect(await eventually { counted(.subscriptionsRefused) > before })
    try await TopicTests.connect(publisher, subscriber, "a/b")
    greedy.close()
    await publisher.close()
    await subscriber.close()
  }

  private static let many = (0..<20_000).map { Array("a/\($0)/\(String(repeating: "x", count: 200))".utf8) }
  /// Fewer than 50, in more than 20,000 bytes.
  private static let long = (0..<20).map { Array("a/\($0)/\(String(repeating: "x", count: 1500))".utf8) }

  @Test func `a peer that subscribes without end is cut off, and others get their messages`() async throws {
    try await self.cutsOff(keys: nil, Self.many)
  }

  @Test func `so is one with a key`() async throws { try await self.cutsOff(keys: TestKeys(), Self.many) }

  @Test func `so is one whose topics are few and long`() async throws {
    try await self.cutsOff(keys: nil, Self.long)
  }

  private let table = SubscriptionTable(
    perPeer: .init(count: 3, bytes: 100), inAll: .init(count: 5, bytes: 1000))

  /// A topic of so many bytes, unlike those of other names.
  private func topic(_ name: UInt8, _ bytes: Int = 10) -> [UInt8] { Array(repeating: name, count: bytes) }

  @Test func `subscriptions count by key, or by connection without keys`() {
    var table = self.table
    func subscribe(_ connection: Int32, _ userID: String?, _ topic: [UInt8]) -> Bool {
      table.subscribe(connection, userID: userID, to: topic)
    }
    for connection in Int32(1)...5 { table.open(connection, cookie: 1) }
    // Two connections of one key.
    #expect(subscribe(1, "k", self.topic(1)))
    #expect(subscribe(1, "k", self.topic(2)))
    #expect(subscribe(2, "k", self.topic(1)))
    #expect(!subscribe(2, "k", self.topic(2)))
    #expect(table.cookieOfEnd(2) == 1 && table.cookieOfEnd(1) == nil)
    // The connection that went too far ends; what it still says counts for nothing.
    #expect(subscribe(2, "k", self.topic(3, 500)))
    #expect(table.total == .init(count: 2, bytes: 20))
    // Bytes count too.
    #expect(!subscribe(3, nil, self.topic(1, 101)))
    // All peers together.
    for name in UInt8(1)...3 { #expect(subscribe(4, nil, self.topic(name))) }
    #expect(!subscribe(5, nil, self.topic(1)))
    let revoked = (table.revoked { _ in false }, table.revoked { _ in false })
    #expect(revoked.0 == [1] && revoked.1 == [])
    for connection in Int32(1)...5 { table.close(connection) }
    #expect(table.isEmpty && table.total == .init())
  }

  @Test func `what a peer never had, or has twice, changes no count`() {
    var table = self.table
    func subscribe(_ connection: Int32, _ userID: String?, _ topic: [UInt8]) -> Bool {
      table.subscribe(connection, userID: userID, to: topic)
    }
    table.open(1, cookie: 1)
    for name in UInt8(10)...20 { table.unsubscribe(1, from: self.topic(name)) }
    for _ in 0..<10 { #expect(subscribe(1, nil, self.topic(1))) }
    #expect(table.total == .init(count: 1, bytes: 10))
    table.unsubscribe(1, from: self.topic(1))
    #expect(table.total == .init())
    for name in UInt8(1)...3 { #expect(subscribe(1, nil, self.topic(name))) }
    #expect(!subscribe(1, nil, self.topic(4)))
  }

  @Test func `what was under way on a connection that is gone charges nobody`() {
    var table = self.table
    func subscribe(_ connection: Int32, _ userID: String?, _ topic: [UInt8]) -> Bool {
      table.subscribe(connection, userID: userID, to: topic)
    }
    #expect(subscribe(1, "k", self.topic(1)))
    #expect(table.isEmpty && table.total == .init())
    // The descriptor is another's now.
    table.open(1, cookie: 1)
    #expect(subscribe(1, "k", self.topic(1)))
    #expect(subscribe(1, "other", self.topic(2)))
    #expect(table.total == .init(count: 1, bytes: 10))
    let revoked = table.revoked { $0 == "other" }
    #expect(revoked == [])
  }

  @Test func `a connection ends by what it is known by, never another that has its descriptor now`() throws {
    var (old, new): ([CInt], [CInt]) = ([0, 0], [0, 0])
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &old) == 0)
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &new) == 0)
    defer { for descriptor in old + new { close(descriptor) } }
    let cookie = czmq_cookie(old[0])
    #expect(cookie != 0 && cookie != czmq_cookie(new[0]))
    // The descriptor becomes another's, at once.
    try #require(dup2(new[0], old[0]) == old[0])
    czmq_end_connection(old[0], cookie)
    #expect(send(new[1], [7], 1, Int32(MSG_NOSIGNAL)) == 1)
    var byte: UInt8 = 0
    #expect(recv(old[0], &byte, 1, Int32(MSG_DONTWAIT)) == 1 && byte == 7)
    czmq_end_connection(old[0], czmq_cookie(old[0]))
    #expect(recv(new[1], &byte, 1, Int32(MSG_DONTWAIT)) == 0)
  }
}
