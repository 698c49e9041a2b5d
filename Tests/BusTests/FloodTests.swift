import CPoller
import Foundation
import Schemas
import Testing

@testable import Bus

/// Peers that send more than is read: what they get rid of is what this side holds of them, and what the system does.
@Suite("Peers that send without end", .timeLimit(.minutes(5)))
struct FloodTests {
  /// On ipc the system itself holds little.
  private static func endpoint() throws -> Endpoint {
    try Endpoint("ipc:///tmp/fleetloop-\(UUID().uuidString.prefix(8)).ipc")
  }

  private static func publication(bytes: Int) throws -> [UInt8] {
    let envelope = TopicEnvelope(publisher: "p", sequence: 1, unixNanos: 1, session: 1)
    return RawConnection.message([
      Array("a".utf8), envelope.serializedBytes(), [UInt8](repeating: 1, count: bytes),
    ])
  }

  @Test(arguments: [SocketLimits.topicMessage, 256 << 10])
  func `a subscriber whose reader is paused holds 64 MiB of a publisher`(bytes: Int) async throws {
    var configuration = Subscriber.Configuration()
    configuration.queuedBytes = 1 << 20
    // The peer answers no heartbeats.
    configuration.heartbeat = .seconds(600)
    let subscriber = try Subscriber(
      .bind(Self.endpoint()), topics: ["a"], configuration: configuration)
    let endpoint = try await subscriber.boundEndpoint
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let peer = try RawConnection(to: endpoint, as: "PUB")
    let message = try Self.publication(bytes: bytes)
    let count = (512 << 20) / bytes
    let (written, isOpen) = await peer.writeAll(Array(repeating: message, count: count))
    try #require(isOpen, "after \(written) bytes")
    #expect(written < SocketLimits.waiting + 3 * bytes + (2 << 20))
    // None of it is lost.
    let whole = written / message.count
    let reading = Task {
      var iterator = subscriber.messages.makeAsyncIterator()
      for _ in 0..<whole { #expect(await iterator.next()?.payload.count == bytes) }
    }
    let timeout = Task {
      try await Task.sleep(for: .seconds(60))
      reading.cancel()
    }
    await reading.value
    timeout.cancel()
    peer.hangUp()
    await subscriber.close()
  }

  @Test func `what waits for a reader keeps to its bytes, however many publishers there are`() async throws {
    var configuration = Subscriber.Configuration()
    configuration.queuedBytes = 1 << 20
    configuration.heartbeat = .seconds(600)
    let subscriber = try Subscriber(.bind(Self.endpoint()), topics: ["a"], configuration: configuration)
    let endpoint = try await subscriber.boundEndpoint
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let peers = try (0..<16).map { _ in try RawConnection(to: endpoint, as: "PUB") }
    let message = try Self.publication(bytes: 64 << 10)
    // Whole messages, until there is room for none: 16 of each publisher wait in ZeroMQ.
    func writeAll() async -> Int {
      await withTaskGroup { group in
        for peer in peers {
          group.addTask { await peer.writeAll(Array(repeating: message, count: 1000)).written }
        }
        return await group.reduce(0, +)
      }
    }
    let first = await writeAll()
    #expect(first > 16 << 20)
    var iterator = subscriber.messages.makeAsyncIterator()
    for _ in 0..<16 { _ = await iterator.next() }
    // As much as was read, and what the system makes of it.
    #expect(await writeAll() < 4 << 20)
    for peer in peers { peer.hangUp() }
    await subscriber.close()
  }

  /// A message of frames of 1 MiB that never ends.
  private static func endless(_ first: [[UInt8]]) -> [[UInt8]] {
    let frame = RawConnection.message([[UInt8](repeating: 1, count: 1 << 20)], isOpen: true)
    return [RawConnection.message(first, isOpen: true)] + Array(repeating: frame, count: 400)
  }

  @Test func `a message that never ends ends its connection, and a server serves others`() async throws {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.heartbeat = .seconds(600)
    let endpoint = try Self.endpoint()
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let server = try await EchoServer(at: endpoint, configuration: configuration)
    let peer = try RawConnection(to: endpoint, as: "DEALER")
    let (written, isOpen) = await peer.writeAll(
      Self.endless([CallFrame(kind: .cancel, callID: 1).serializedBytes()]))
    #expect(!isOpen && written < Int(cpoller_most_undelivered) + (2 << 20))
    try await withClient(endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    peer.hangUp()
    await server.stop()
  }

  @Test func `empty frames end their connection by what ZeroMQ holds for them, not by their two bytes`()
    async throws
  {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.heartbeat = .seconds(600)
    let endpoint = try Self.endpoint()
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let server = try await EchoServer(at: endpoint, configuration: configuration)
    let peer = try RawConnection(to: endpoint, as: "DEALER")
    // 16 MiB, which would be 512 in memory.
    let run = (0..<64 << 10).map { UInt8(($0 + 1) % 2) }
    let (written, isOpen) = await peer.writeAll(Array(repeating: run, count: 256))
    #expect(!isOpen && written < 1 << 20)
    try await withClient(endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    peer.hangUp()
    await server.stop()
  }

  // In a process of its own: what waits for a thread there waits for the loop.
  @Test func `a message of two million frames keeps nobody waiting`() async {
    await #expect(processExitsWith: .success) { try await Self.sendManyFrames(withKeys: false) }
  }

  @Test func `nor does one with keys`() async {
    await #expect(processExitsWith: .success) { try await Self.sendManyFrames(withKeys: true) }
  }

  private static func sendManyFrames(withKeys: Bool) async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: withKeys ? .curve(keys.server) : .none)
    let security: ClientSecurity = withKeys ? try keys.peer("many", .operator) : .none
    try await withClient(
      server.endpoint, security: withKeys ? keys.peer("honest", .operator) : .none
    ) { client in
      try await client.expect(.unary, [[9]], gives: [[9]])
      let peer = try RawPeer(.dealer, to: server.endpoint, security: security)
      #expect(await peer.send(Array(repeating: [], count: 2_000_000)))
      var longest = Duration.zero
      for _ in 0..<300 {
        longest = try await max(
          longest, ContinuousClock().measure { try await client.expect(.unary, [[9]], gives: [[9]]) })
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(longest < .seconds(1))
      peer.close()
    }
    await server.stop()
  }

  @Test func `so does one that a publisher never ends, and one of a subscriber`() async throws {
    var (receiving, sending) = (Subscriber.Configuration(), Publisher.Configuration())
    (receiving.heartbeat, sending.heartbeat) = (.seconds(600), .seconds(600))
    let subscriber = try Subscriber(.bind(Self.endpoint()), topics: ["a"], configuration: receiving)
    let publisher = try Publisher(.bind(Self.endpoint()), identity: "p", configuration: sending)
    let small = RawConnection.message([[UInt8](repeating: 0, count: 2000)], isOpen: true)
    let frames = Array(repeating: Array(repeating: small, count: 500).flatMap { $0 }, count: 400)
    for (endpoint, type, messages) in [
      (try await subscriber.boundEndpoint, "PUB", Self.endless([Array("a".utf8)])),
      (try await publisher.boundEndpoint, "SUB", frames),
    ] {
      let peer = try RawConnection(to: endpoint, as: type)
      let (written, isOpen) = await peer.writeAll(messages)
      #expect(!isOpen && written < Int(cpoller_most_undelivered) + (2 << 20))
      peer.hangUp()
      try? FileManager.default.removeItem(atPath: endpoint.address)
    }
    await publisher.close()
    await subscriber.close()
  }

  @Test func `who is read may send any amount`() async throws {
    let endpoint = try Self.endpoint()
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let subscriber = try Subscriber(.bind(endpoint), topics: ["a"])
    let reading = Task {
      var count = 0
      for await _ in subscriber.messages {
        count += 1
        if count == 80 { break }
      }
      return count
    }
    let peer = try RawConnection(to: endpoint, as: "PUB")
    // 320 MiB.
    let message = try Self.publication(bytes: SocketLimits.topicMessage)
    let (_, isOpen) = await peer.writeAll(Array(repeating: message, count: 80))
    try #require(isOpen)
    let count = await reading.value
    #expect(count == 80)
    peer.hangUp()
    await subscriber.close()
  }
}
