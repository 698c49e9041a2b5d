import Foundation
import GRPCCore
import Schemas
import Synchronization
import Testing

@testable import Bus

@Suite("Revoked keys", .timeLimit(.minutes(5)))
struct RevocationTests {
  /// What a call of the boss ends with once its key is revoked.
  private func endOfCall(
    _ body: @escaping @Sendable (any EchoClient, EchoLog) async throws -> Void
  ) async throws -> RPCError? {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    let ended = Mutex<RPCError?>(nil)
    try await withClient(server.endpoint, security: keys.peer("boss", .operator)) { client in
      let call = Task { try await body(client, server.log) }
      #expect(await server.log.waits(for: "open"))
      try keys.server.revoke("boss")
      let error = await #expect(throws: RPCError.self) { try await call.value }
      ended.withLock { $0 = error }
    }
    await server.stop()
    return ended.withLock { $0 }
  }

  @Test func `an open server stream ends`() async throws {
    let error = try await self.endOfCall { client, log in
      try await client.exchange(EchoService.Method.flood.descriptor, metadata: [:], options: .defaults) {
        try await $0.write([255])
      } _: { response in
        for try await _ in response.messages {
          log.note("open")
          // Slower than the server, so that the stream is open still when the key is revoked.
          try await Task.sleep(for: .milliseconds(50))
        }
      }
    }
    #expect(error?.code == .unauthenticated)
  }

  @Test func `an open conversation ends`() async throws {
    let error = try await self.endOfCall { client, log in
      let (never, continuation) = AsyncStream.makeStream(of: Void.self)
      defer { continuation.finish() }
      try await client.exchange(EchoService.Method.echo.descriptor, metadata: [:], options: .defaults) {
        try await $0.write([1])
        for await _ in never {}
      } _: { response in
        defer { continuation.finish() }
        for try await _ in response.messages { log.note("open") }
      }
    }
    #expect(error?.code == .unauthenticated)
  }

  @Test func `a call that waits ends`() async throws {
    let error = try await self.endOfCall { client, log in
      let call = Task { try await client.messages(.sleep, [[1]]) }
      #expect(await log.waits(for: "sleeping"))
      log.note("open")
      _ = try await call.value
    }
    #expect(error?.code == .unauthenticated)
  }

  /// Whether nothing more is noted of one while the other is noted a hundred times, once what was under way has come.
  private func hearsNoMore(_ revoked: String, _ kept: String, _ received: EchoLog) async -> Bool {
    await eventually {
      let (heard, others) = (received.count(revoked), received.count(kept))
      let hasHeardOther = await eventually { received.count(kept) >= others + 100 }
      return hasHeardOther && received.count(revoked) == heard
    }
  }

  @Test func `a subscription ends, and others go on`() async throws {
    let keys = try TestKeys()
    let publisher = try Publisher(
      .bind(Endpoint("tcp://127.0.0.1:*")), identity: "ingest", security: .curve(keys.server))
    let endpoint = try await publisher.boundEndpoint
    let revoked = try Subscriber(.connect([endpoint]), topics: ["acks"], security: keys.peer("r1", .robot))
    let kept = try Subscriber(.connect([endpoint]), topics: ["acks"], security: keys.peer("r2", .robot))
    let received = EchoLog()
    let reading = Task { for await _ in revoked.messages { received.note("revoked") } }
    let readingOther = Task { for await _ in kept.messages { received.note("kept") } }
    let publishing = Task {
      while !Task.isCancelled {
        try? await publisher.publish(HealthCheckRequest(), to: "acks/r1")
        try? await Task.sleep(for: .milliseconds(5))
      }
    }
    #expect(await received.waits(for: "revoked"))
    #expect(await received.waits(for: "kept"))
    let before = counted(.revoked)
    try keys.server.revoke("r1")
    #expect(await eventually { counted(.revoked) > before })
    #expect(await self.hearsNoMore("revoked", "kept", received))
    publishing.cancel()
    reading.cancel()
    readingOther.cancel()
    await publisher.close()
    await revoked.close()
    await kept.close()
  }

  @Test func `what a robot publishes is believed no longer`() async throws {
    let keys = try TestKeys()
    let subscriber = try Subscriber(
      .bind(Endpoint("tcp://127.0.0.1:*")), topics: ["trials"], security: .curve(keys.server))
    let endpoint = try await subscriber.boundEndpoint
    let publishers = try ["r1", "r2"].map {
      try Publisher(.connect([endpoint]), identity: $0, security: keys.peer($0, .robot))
    }
    let publishing = Task {
      while !Task.isCancelled {
        for (number, publisher) in publishers.enumerated() {
          try? await publisher.publish(HealthCheckRequest(), to: Topic("trials/r\(number + 1)"))
        }
        try? await Task.sleep(for: .milliseconds(5))
      }
    }
    let received = EchoLog()
    let reading = Task { for await message in subscriber.messages { received.note(message.publisher) } }
    #expect(await received.waits(for: "r1"))
    #expect(await received.waits(for: "r2"))
    try keys.server.revoke("r1")
    #expect(await self.hearsNoMore("r1", "r2", received))
    publishing.cancel()
    reading.cancel()
    for publisher in publishers { await publisher.close() }
    await subscriber.close()
  }

  @Test func `a folder has one watcher, which sees keys come and go`() async throws {
    let keys = try TestKeys()
    let watcher = KeyWatcher.of(keys.server)
    #expect(watcher === KeyWatcher.of(KeyStore(folder: keys.server.folder)))
    let own = try keys.server.own().pair.publicKey
    #expect(watcher.identity(ofPublicKey: own) == PeerIdentity(name: "ingest", role: .ingest))
    let key = try KeyPair().publicKey
    let version = watcher.snapshot.version
    try keys.server.authorize(.init(name: "r1", role: .robot, publicKey: key))
    #expect(await eventually { watcher.identity(ofPublicKey: key)?.name == "r1" })
    // Another role in the same file.
    try keys.server.authorize(.init(name: "r1", role: .monitor, publicKey: key))
    #expect(await eventually { watcher.identity(ofPublicKey: key)?.role == .monitor })
    // A file that speaks for another's name, and one that is no key, are nobody's.
    let folder = keys.server.authorizedFolder
    try FileManager.default.copyItem(atPath: "\(folder)/r1.json", toPath: "\(folder)/r2.json")
    try Data("{".utf8).write(to: URL(fileURLWithPath: "\(folder)/r3.json"))
    try keys.server.revoke("r1")
    #expect(await eventually { watcher.identity(ofPublicKey: key) == nil })
    #expect(watcher.snapshot.version > version)
  }
}
