import Foundation
import GRPCCore
import Schemas
import Testing

@testable import Bus

@Suite("Keys, roles and names", .timeLimit(.minutes(5)))
struct SecurityTests {
  @Test("an authorized peer is known by name and role")
  func identity() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: BusSecurity.server(keys: keys.server.folder))
    try await withClient(server.endpoint, security: keys.peer("boss", .operator)) { client in
      try await client.expect(.who, [[]], gives: [Array("operator/boss operator/boss".utf8)])
    }
    await server.stop()
  }

  @Test("a process trusts its own key: a robot's control program has its agent's")
  func ownKey() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: BusSecurity.server(keys: keys.server.folder))
    let key = try keys.server.own().pair.publicKey
    try await withClient(server.endpoint, security: .curve(keys.server, serverKey: key)) { client in
      try await client.expect(.who, [[]], gives: [Array("ingest/ingest ingest/ingest".utf8)])
    }
    await server.stop()
    #expect(AccessPolicy.fleet.mayCall("fleetloop.v1.RobotService/NextWork", as: .robot))
    #expect(!AccessPolicy.fleet.mayCall("fleetloop.v1.RolloutService/CreateRelease", as: .robot))
  }

  @Test("no public key looks like an option of a command line")
  func publicKeysAreArguments() throws {
    let folder = NSTemporaryDirectory() + "fleetloop-keys-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // One key in 85 would begin with a dash.
    for number in 0..<600 {
      let pair = try KeyStore(folder: "\(folder)/\(number)").create(name: "robot", role: .robot)
      #expect(!pair.publicKey.hasPrefix("-"))
    }
  }

  @Test("a stranger is turned away and counted")
  func stranger() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    let before = counted(.handshakesRefused)
    for security in [try keys.peer("stranger", .operator, trusted: false), .none] {
      var configuration = ZeroMQClientTransport.Configuration()
      configuration.connectionGrace = .milliseconds(500)
      try await withClient(server.endpoint, security: security, configuration: configuration) { client in
        let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, [[1]]) }
        #expect(error?.code == .unavailable)
      }
    }
    #expect(counted(.handshakesRefused) > before)
    #expect(server.log.count("unary") == 0)
    await server.stop()
  }

  @Test("a revoked key works no longer, a new one at once")
  func revocation() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    let security = try keys.peer("boss", .operator)
    let before = counted(.turnedAway)
    try await withClient(server.endpoint, security: security) { client in
      try await client.expect(.unary, [[1]], gives: [[1]])
      try keys.server.revoke("boss")
      #expect(await eventually { (try? await client.messages(.unary, [[1]])) == nil })
      let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, [[1]]) }
      #expect(error?.code == .unauthenticated)
    }
    #expect(counted(.turnedAway) > before)
    try await withClient(server.endpoint, security: keys.peer("new", .monitor)) { client in
      try await client.expect(.unary, [[2]], gives: [[2]])
    }
    await server.stop()
  }

  @Test("a key that is authorized later gets in without a restart; a replaced key is out")
  func laterAndReplaced() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    let security = try keys.peer("late", .operator, trusted: false)
    let key = try #require(security.keys?.own.publicKey)
    try await withClient(server.endpoint, security: security) { client in
      let call = Task { try await client.messages(.who, [[]], options: .waiting) }
      try await Task.sleep(for: .milliseconds(300))
      try keys.server.authorize(.init(name: "late", role: .operator, publicKey: key))
      let answer = try await call.value
      #expect(answer == [Array("operator/late operator/late".utf8)])
      // The name stays, with another key.
      try keys.server.authorize(.init(name: "late", role: .operator, publicKey: KeyPair().publicKey))
      #expect(await eventually { (try? await client.messages(.unary, [[1]])) == nil })
    }
    await server.stop()
  }

  @Test("a role limits methods")
  func roles() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    try await withClient(server.endpoint, security: keys.peer("r1", .robot)) { client in
      let error = await #expect(throws: RPCError.self) { try await client.messages(.unary, [[1]]) }
      #expect(error?.code == .permissionDenied)
    }
    await server.stop()
    let policy = AccessPolicy.fleet
    #expect(policy.mayCall("fleetloop.v1.IngestService/Upload", as: .robot))
    #expect(!policy.mayCall("fleetloop.v1.IngestService/GetTrial", as: .robot))
    #expect(policy.mayCall("grpc.health.v1.Health/Check", as: .robot))
    #expect(!policy.mayCall("grpc.health.v1.HealthX/Check", as: .robot))
    #expect(policy.mayCall("fleetloop.v1.IngestService/GetTrial", as: .training))
  }

  @Test("a robot publishes as itself only")
  func publisher() async throws {
    let keys = try TestKeys()
    let subscriber = try Subscriber(
      .bind(Endpoint("tcp://127.0.0.1:*")), topics: ["trials", "acks"], security: .curve(keys.server))
    let endpoint = try await subscriber.boundEndpoint
    let security = try keys.peer("r1", .robot)
    let right = try Publisher(.connect([endpoint]), identity: "r1", security: security)
    let lying = try Publisher(.connect([endpoint]), identity: "r2", security: security)
    let before = counted(.turnedAway)
    let publishing = Task {
      while !Task.isCancelled {
        try await lying.publish(HealthCheckRequest(service: "lie"), to: "trials/r2")
        try await lying.publish(HealthCheckRequest(service: "lie"), to: "trials/r1")
        try await right.publish(HealthCheckRequest(service: "lie"), to: "trials/r2")
        try await right.publish(HealthCheckRequest(service: "lie"), to: "acks/r1")
        try await right.publish(HealthCheckRequest(service: "truth"), to: "trials/r1")
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    var iterator = subscriber.messages.makeAsyncIterator()
    for _ in 0..<10 {
      let message = try #require(await iterator.next())
      #expect(message.topic == "trials/r1" && message.peer == PeerIdentity(name: "r1", role: .robot))
      #expect(try message.decode(HealthCheckRequest.self).service == "truth")
    }
    #expect(await eventually { counted(.turnedAway) > before + 10 })
    publishing.cancel()
    await right.close()
    await lying.close()
    await subscriber.close()
  }

  @Test(
    "a socket that others can reach needs keys", arguments: ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0"])
  func openBind(text: String) async throws {
    let endpoint = try Endpoint(text)
    let server = #expect(throws: BusError.self) { try ZeroMQServerTransport(bind: endpoint) }
    #expect(server?.code == .keysRequired)
    let subscriber = #expect(throws: BusError.self) { try Subscriber(.bind(endpoint), topics: []) }
    #expect(subscriber?.code == .keysRequired)
    let publisher = #expect(throws: BusError.self) { try Publisher(.bind(endpoint), identity: "a") }
    #expect(publisher?.code == .keysRequired)
    let keys = try TestKeys()
    #expect(throws: Never.self) {
      _ = try Publisher(.bind(Endpoint("tcp://0.0.0.0:0")), identity: "a", security: .curve(keys.server))
    }
  }

  @Test(
    "a client without keys stays on this machine",
    arguments: [
      "tcp://10.0.0.2:7401", "tcp://fleet.example:7401", "tcp://127.example:7401", "tcp://[fe80::1]:7401",
      "tcp://127.0.0.1:0;10.0.0.2:7401",
    ])
  func openConnect(text: String) throws {
    let endpoint = try Endpoint(text)
    let errors = [
      #expect(throws: BusError.self) { _ = try ZeroMQClientTransport(connect: endpoint) },
      #expect(throws: BusError.self) { _ = try Subscriber(.connect([endpoint]), topics: ["a"]) },
      #expect(throws: BusError.self) { _ = try Publisher(.connect([endpoint]), identity: "a") },
    ]
    for error in errors {
      #expect(error?.code == .keysRequired && error?.message.contains(endpoint.description) == true)
    }
  }

  @Test(
    "a client without keys reaches this machine",
    arguments: ["tcp://127.0.0.1:7401", "tcp://localhost:7401", "tcp://[::1]:7401", "ipc:///tmp/none"])
  func localConnect(text: String) throws {
    #expect(throws: Never.self) { _ = try ZeroMQClientTransport(connect: Endpoint(text)) }
  }

  @Test("key files: hostile names, wrong keys and missing files are clear errors")
  func keyFiles() throws {
    let keys = try TestKeys()
    let pair = try KeyPair()
    for name in ["", "../x", "a/b", ".hidden", String(repeating: "a", count: 65), "ä"] {
      let error = #expect(throws: BusError.self) {
        try keys.server.authorize(.init(name: name, role: .robot, publicKey: pair.publicKey))
      }
      #expect(error?.code == .invalidKey)
    }
    #expect(throws: BusError.self) {
      try keys.server.authorize(.init(name: "a", role: .robot, publicKey: "short"))
    }
    #expect(throws: BusError.self) { try keys.server.revoke("nobody") }
    #expect(throws: BusError.self) { try keys.server.create(name: "again", role: .ingest) }
    #expect(throws: BusError.self) { try BusSecurity.server(keys: keys.folder + "/none") }
    #expect(throws: BusError.self) { try BusSecurity.client(of: "rollout", keys: keys.server.folder) }
    #expect(throws: BusError.self) { try KeyPair(publicKey: pair.publicKey, secretKey: KeyPair().secretKey) }
    let attributes = try FileManager.default.attributesOfItem(atPath: keys.server.folder + "/own.json")
    #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o644], ofItemAtPath: keys.server.folder + "/own.json")
    let readable = #expect(throws: BusError.self) { try keys.server.own() }
    #expect(readable?.code == .invalidKey)
  }

  @Test func `an error says what caused it`() {
    let cause = BusError(.invalidKey, "The file is empty.")
    #expect(
      "\(BusError(.invalidKey, "No key.", cause: cause))"
        == "invalidKey: No key. (invalidKey: The file is empty.)")
    #expect("\(BusError(.closed, "It was closed."))" == "closed: It was closed.")
  }
}
