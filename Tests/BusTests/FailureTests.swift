import Foundation
import GRPCCore
import Schemas
import Testing

@testable import Bus

@Suite("Failures of peers and networks", .timeLimit(.minutes(5)))
struct FailureTests {
  private static func temporary(_ transport: String) throws -> Endpoint {
    try Endpoint("\(transport):///tmp/fleetloop-\(UUID().uuidString.prefix(8)).ipc")
  }

  private static func remove(_ endpoint: Endpoint) {
    if endpoint.transport == .ipc { try? FileManager.default.removeItem(atPath: endpoint.address) }
  }

  @Test("without a server a call is unavailable after the grace")
  func noServer() async throws {
    var configuration = ZeroMQClientTransport.Configuration()
    configuration.connectionGrace = .milliseconds(100)
    try await withClient(Self.temporary("ipc"), configuration: configuration) { client in
      let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, [[1]]) }
      #expect(error?.code == .unavailable)
    }
  }

  @Test func `a request that lost its message is not sent, and may be made again`() async throws {
    let server = try await EchoServer()
    try await withClient(server.endpoint) { client in
      let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, []) }
      #expect(error?.code == .unavailable)
      try await client.expect(.unary, [[9]], gives: [[9]])
    }
    await server.stop()
  }

  @Test func `a call ends whose client is gone and closed nothing, long before it is idle`() async throws {
    let server = try await EchoServer()
    // From here on it says nothing, as a machine without power.
    let peer = try RawConnection(to: server.endpoint, as: "DEALER")
    let header: [UInt8] = LimitTests.opening(.sleep, id: 1).serializedBytes()
    let opening = RawConnection.message([header, [1]])
    let (written, _) = await peer.writeAll([opening])
    #expect(written == opening.count)
    #expect(await server.log.waits(for: "sleeping"))
    #expect(await server.log.waits(for: "cancelled", limit: .seconds(30)))
    #expect(await eventually { server.load.openCalls == 0 })
    peer.hangUp()
    await server.stop()
  }

  @Test("a call that waits for ready is served once the server comes")
  func waitsForReady() async throws {
    let endpoint = try Self.temporary("ipc")
    defer { Self.remove(endpoint) }
    try await withClient(endpoint) { client in
      let call = Task { try await client.messages(.unary, [[1]], options: .waiting) }
      try await Task.sleep(for: .milliseconds(100))
      let server = try await EchoServer(at: endpoint)
      let answer = try await call.value
      #expect(answer == [[1]])
      await server.stop()
    }
  }

  @Test(
    "a lost server makes calls unavailable, and its successor serves again",
    arguments: ["ipc", "tcp", "inproc"])
  func serverLost(transport: String) async throws {
    let first = try await EchoServer(at: transport == "tcp" ? nil : Self.temporary(transport))
    defer { Self.remove(first.endpoint) }
    try await withClient(first.endpoint) { client in
      let call = Task { try await client.messages(.sleep, [[1]]) }
      #expect(await first.log.waits(for: "sleeping"))
      await first.stop()
      let error = await #expect(throws: RPCError.self) { try await call.value }
      #expect(error?.code == .unavailable)
      #expect(await first.log.waits(for: "cancelled"))
      // inproc sockets do not connect again by themselves.
      if transport == "inproc" { return }
      let second = try await EchoServer(at: first.endpoint)
      // A call that begins before the loss is noticed is lost too.
      #expect(await eventually { (try? await client.messages(.unary, [[2]], options: .waiting)) == [[2]] })
      await second.stop()
    }
  }

  @Test("a client that goes away has its handlers cancelled", arguments: ["ipc", "tcp", "inproc"])
  func clientLost(transport: String) async throws {
    let server = try await EchoServer(at: transport == "tcp" ? nil : Self.temporary(transport))
    defer { Self.remove(server.endpoint) }
    let peer = try RawPeer(.dealer, to: server.endpoint)
    var header = CallFrame(kind: .open, callID: 7, method: "test.Echo/sleep")
    header.hasMessage = true
    #expect(await peer.send(header, message: [1]))
    #expect(await server.log.waits(for: "sleeping"))
    peer.close()
    #expect(await server.log.waits(for: "cancelled"))
    await server.stop()
  }

  @Test("a graceful shutdown lets calls end and takes no new ones")
  func gracefulShutdown() async throws {
    let server = try await EchoServer()
    try await withClient(server.endpoint) { client in
      let call = Task { try await client.messages(.hang, [[1]]) }
      #expect(await server.log.waits(for: "hanging"))
      try await server.shutDown()
      let answer = try await call.value
      #expect(answer == [])
      #expect(server.log.count("asked") == 1)
      // Turned down at once, or without a connection already.
      await #expect(throws: RPCError.self) {
        try await client.messages(.unary, [[1]], options: .brief)
      }
    }
  }

  @Test("the grace period ends calls that do not end themselves")
  func graceEnds() async throws {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.gracePeriod = .milliseconds(100)
    let server = try await EchoServer(configuration: configuration)
    try await withClient(server.endpoint) { client in
      let call = Task { try await client.messages(.sleep, [[1]]) }
      #expect(await server.log.waits(for: "sleeping"))
      try await server.shutDown()
      let error = await #expect(throws: RPCError.self) { try await call.value }
      #expect(error?.code == .unavailable)
    }
  }

  @Test("a slow reader slows its writer")
  func backpressure() async throws {
    let server = try await EchoServer()
    try await withClient(server.endpoint) { client in
      // 3 MiB a message of the request, so 12 MiB; the window is 4 MiB.
      try await client.exchange(EchoService.Method.flood.descriptor, metadata: [:], options: .defaults) {
        try await $0.write([12])
      } _: { response in
        var messages = response.messages.makeAsyncIterator()
        _ = try await messages.next()
        #expect(await eventually { server.log.count("flooded") >= 60 })
        try await Task.sleep(for: .milliseconds(200))
        // The window of 4 MiB holds 64 messages of 64 KiB.
        #expect(server.log.count("flooded") <= 66)
        var count = 1
        while try await messages.next() != nil { count += 1 }
        #expect(count == 192)
      }
    }
    await server.stop()
  }

  @Test("messages above the limit are refused, by the writer and by the server")
  func sizeLimit() async throws {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.limits.maxMessageBytes = 1000
    let server = try await EchoServer(configuration: configuration)
    try await withClient(server.endpoint) { client in
      let error = await #expect(throws: RPCError.self) {
        try await client.messages(.unary, [[UInt8](repeating: 0, count: 1500)])
      }
      #expect(error?.code == .resourceExhausted)
      let small = try await client.messages(.unary, [[UInt8](repeating: 0, count: 1000)])
      #expect(small.first?.count == 1000)
    }
    var clientConfiguration = ZeroMQClientTransport.Configuration.patient
    clientConfiguration.limits.maxMessageBytes = 100
    try await withClient(server.endpoint, configuration: clientConfiguration) { client in
      // What is refused before it is sent needs no connection, and a client may not end before it began to connect.
      try await client.expect(.unary, [[1]], gives: [[1]])
      let error = await #expect(throws: RPCError.self) {
        try await client.messages(.unary, [[UInt8](repeating: 0, count: 101)])
      }
      #expect(error?.code == .resourceExhausted)
    }
    await server.stop()
  }

  @Test("more calls than allowed are turned down")
  func callLimit() async throws {
    var configuration = ZeroMQServerTransport.Configuration()
    // Of four, one is kept for who has none, and one peer alone may have two of the others.
    configuration.limits.maxOpenCalls = 4
    let server = try await EchoServer(configuration: configuration)
    try await withClient(server.endpoint) { client in
      let calls = (0..<2).map { _ in Task { try await client.messages(.sleep, [[1]]) } }
      #expect(await eventually { server.log.count("sleeping") == 2 })
      let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, [[1]]) }
      #expect(error?.code == .resourceExhausted)
      for call in calls { call.cancel() }
      #expect(await eventually { (try? await client.messages(.unary, [[1]])) == [[1]] })
    }
    await server.stop()
  }

  @Test("a taken endpoint and an unknown host are clear errors")
  func bindErrors() async throws {
    let server = try await EchoServer()
    let taken = #expect(throws: BusError.self) { try ZeroMQServerTransport(bind: server.endpoint) }
    #expect(taken?.code == .endpointInUse)
    let missing = #expect(throws: BusError.self) {
      try ZeroMQServerTransport(bind: Endpoint("ipc:///no/such/folder/socket"))
    }
    #expect(missing?.code == .endpointUnavailable)
    for text in ["", "tcp://", "tcp://host", "tcp://host:99999", "udp://a:1", "ipc://", "inproc://\0"] {
      let error = #expect(throws: BusError.self) { try Endpoint(text) }
      #expect(error?.code == .invalidEndpoint)
    }
    await server.stop()
  }
}
