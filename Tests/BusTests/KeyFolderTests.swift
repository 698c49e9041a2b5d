import Dispatch
import Foundation
import Synchronization
import Testing

@testable import Bus

@Suite("Folders of keys", .timeLimit(.minutes(5)))
struct KeyFolderTests {
  @Test func `one that does not answer holds up no call, and no peer that is known`() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(security: .curve(keys.server))
    let known = try keys.peer("known", .operator)
    let stranger = try keys.peer("stranger", .operator, trusted: false)
    let watcher = KeyWatcher.of(keys.server)
    try await withClient(server.endpoint, security: known) { client in
      try await client.expect(.unary, [[1]], gives: [[1]])
      // As while a look takes its time, on a disk that hangs.
      let end = DispatchSemaphore(value: 0)
      Thread.detachNewThread {
        watcher.files.withLock { _ in
          server.log.note("looking")
          end.wait()
        }
      }
      #expect(await server.log.waits(for: "looking"))
      defer { end.signal() }
      let before = counted(.handshakesHeld)
      let peer = try RawPeer(.dealer, to: server.endpoint, security: stranger)
      #expect(await eventually { counted(.handshakesHeld) > before })
      #expect(try await client.messages(.unary, [[2]], options: .waiting) == [[2]])
      try await withClient(server.endpoint, security: known) {
        try await $0.expect(.unary, [[3]], gives: [[3]])
      }
      peer.close()
    }
    await server.stop()
  }
}
