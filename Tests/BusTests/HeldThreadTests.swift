import Foundation
import GRPCCore
import Schemas
import Testing

@testable import Bus

/// Handlers that take threads from everybody in the process: each test has a process of its own, for the tests beside it need
/// theirs.
@Suite("Handlers that hold threads", .timeLimit(.minutes(5)))
struct HeldThreadTests {
  @Test("a handler that never returns does not hold up the end of its server")
  func handlerStays() async {
    await #expect(processExitsWith: .success) { try await Self.handlerStays() }
  }

  @Test func `a priority method runs while other handlers keep every thread busy`() async {
    await #expect(processExitsWith: .success) { try await Self.everyThreadIsBusy() }
  }

  private static func handlerStays() async throws {
    var configuration = ZeroMQServerTransport.Configuration()
    configuration.gracePeriod = .milliseconds(100)
    let server = try await EchoServer(configuration: configuration)
    try await withClient(server.endpoint) { client in
      let call = Task { try await client.messages(.block, [[1]]) }
      #expect(await server.log.waits(for: "blocking"))
      let end = Task {
        try await server.shutDown()
        server.log.note("ended")
      }
      let hasEnded = await server.log.waits(for: "ended", limit: .seconds(30))
      server.log.gate.signal()
      #expect(hasEnded)
      try await end.value
      await #expect(throws: RPCError.self) { try await call.value }
    }
  }

  private static func everyThreadIsBusy() async throws {
    let server = try await EchoServer(
      configuration: LimitTests.limits { $0.priorityMethods = ["test.Echo/unary"] })
    let cores = ProcessInfo.processInfo.activeProcessorCount
    let busy = try RawPeer(.dealer, to: server.endpoint)
    for id in 1...UInt64(2 * cores) {
      #expect(await busy.send(LimitTests.opening(.spin, id: id), message: [1]))
    }
    // Nothing of this test may need the pool meanwhile.
    let answer: CallFrame? = await withCheckedContinuation { continuation in
      let thread = Thread {
        let end = ContinuousClock.now + .seconds(60)
        while server.log.count("spinning") < cores, .now < end { Thread.sleep(forTimeInterval: 0.002) }
        let peer = try? RawPeer(.dealer, to: server.endpoint)
        let answer = peer?.exchange(LimitTests.opening(.unary, id: 1), message: [9], within: .seconds(20))
        peer?.close()
        server.log.endSpinning()
        continuation.resume(returning: answer)
      }
      thread.start()
    }
    #expect(answer?.statusCode == 0)
    busy.close()
    await server.stop()
  }
}
