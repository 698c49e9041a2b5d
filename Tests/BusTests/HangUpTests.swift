import Foundation
import Schemas
import Testing

@testable import Bus

/// libzmq 4.3.4 aborts its process when it would write to a connection that broke while its input was stopped: a
/// heartbeat that is due, or the answer to a peer's. Here a failure is a crash.
@Suite("Peers that hang up while their input is stopped", .timeLimit(.minutes(5)))
struct HangUpTests {
  private static func endpoint(_ transport: String) throws -> Endpoint {
    try Endpoint(
      transport == "tcp" ? "tcp://127.0.0.1:*" : "ipc:///tmp/fleetloop-\(UUID().uuidString.prefix(8)).ipc")
  }

  private static func remove(_ endpoint: Endpoint) {
    if endpoint.transport == .ipc { try? FileManager.default.removeItem(atPath: endpoint.address) }
  }

  private static let heartbeat: Duration = .milliseconds(20)

  /// Messages with a question whether this side is alive after each few, so that one is read together with what does not fit.
  private static func flood(_ messages: [[UInt8]], asking: Bool) -> [UInt8] {
    messages.enumerated().flatMap { index, message in
      message + (asking && index % 10 == 9 ? RawConnection.ping : [])
    }
  }

  private static func publication(_ sequence: Int) -> [UInt8] {
    let envelope = TopicEnvelope(publisher: "p", sequence: UInt64(sequence), unixNanos: 1, session: 1)
    return RawConnection.message([Array("a".utf8), envelope.serializedBytes(), [1]])
  }

  @Test(arguments: ["ipc", "tcp"], [false, true])
  func `a subscriber whose reader is slow survives its publishers`(transport: String, asking: Bool)
    async throws
  {
    var configuration = Subscriber.Configuration()
    configuration.queuedMessages = 4
    configuration.heartbeat = Self.heartbeat
    let subscriber = try Subscriber(
      .bind(Self.endpoint(transport)), topics: ["a"], configuration: configuration)
    let endpoint = try await subscriber.boundEndpoint
    defer { Self.remove(endpoint) }
    let peers = try (0..<4).map { _ in try RawConnection(to: endpoint, as: "PUB") }
    let flood = Self.flood((1...2000).map(Self.publication), asking: asking)
    for peer in peers { #expect(peer.write(flood) > 8192) }
    for peer in peers { peer.hangUp() }
    // Heartbeats are due meanwhile.
    try await Task.sleep(for: Self.heartbeat * 20)
    let publisher = try Publisher(.connect([endpoint]), identity: "last")
    let publishing = Task {
      while !Task.isCancelled {
        try? await publisher.publish(HealthCheckRequest(), to: "a")
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    var iterator = subscriber.messages.makeAsyncIterator()
    while let message = await iterator.next(), message.publisher != "last" {}
    publishing.cancel()
    await publisher.close()
    await subscriber.close()
  }

  @Test(arguments: ["ipc", "tcp"], [false, true])
  func `a server that is bound and serves later survives its clients`(transport: String, asking: Bool)
    async throws
  {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.heartbeat = Self.heartbeat
    let server = try ZeroMQServerTransport(bind: Self.endpoint(transport), configuration: configuration)
    let endpoint = try await server.boundEndpoint
    defer { Self.remove(endpoint) }
    let peer = try RawConnection(to: endpoint, as: "DEALER")
    let frame = RawConnection.message([CallFrame(kind: .cancel, callID: 1).serializedBytes()])
    #expect(peer.write(Self.flood(Array(repeating: frame, count: 5000), asking: asking)) > 8192)
    peer.hangUp()
    try await Task.sleep(for: Self.heartbeat * 20)
    try await serve(server, ZeroMQClientTransport(connect: endpoint), EchoLog()) { client, _ in
      try await client.expect(.unary, [[9]], gives: [[9]])
    }
  }

  @Test(arguments: ["ipc", "tcp"], [false, true])
  func `a publisher survives its subscribers`(transport: String, asking: Bool) async throws {
    var configuration = Publisher.Configuration()
    configuration.heartbeat = Self.heartbeat
    let publisher = try Publisher(
      .bind(Self.endpoint(transport)), identity: "p", configuration: configuration)
    let endpoint = try await publisher.boundEndpoint
    defer { Self.remove(endpoint) }
    let topics = (0..<300).map { RawConnection.message([[1] + Array("a/\($0)".utf8)]) }
    for _ in 0..<100 {
      let peer = try RawConnection(to: endpoint, as: "SUB")
      peer.write(Self.flood(topics, asking: asking))
      peer.hangUp()
    }
    let subscriber = try Subscriber(.connect([endpoint]), topics: ["a"])
    try await TopicTests.connect(publisher, subscriber, "a/b")
    await publisher.close()
    await subscriber.close()
  }
}
