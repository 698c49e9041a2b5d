import GRPCCore
import Schemas
import Testing

@testable import InferenceCore

@Suite("HeldRequests")
struct HeldRequestsTests {
  /// One worker that begins so long after the first observation came.
  private static func held(for window: Duration) -> Batcher {
    var configuration = Batcher.Configuration()
    configuration.workers = 1
    configuration.window = window
    let batcher = Batcher(configuration)
    batcher.streamsChanged(by: 2)
    return batcher
  }

  @Test func `one stream has no more bytes wait than a caller may, and goes on`() async throws {
    try await Bench.run(batcher: Self.held(for: .seconds(3))) { bench in
      try bench.registry.add("v1", serial: 1)
      _ = try await bench.client.prepare(PrepareRequest(version: "v1"))
      var large = request("v1")
      large.observation?.image = [UInt8](repeating: 7, count: 2_048 * 2_048 * 3)
      large.observation?.imageHeight = 2_048
      large.observation?.imageWidth = 2_048
      // 12 x 12 MiB, where 64 MiB may wait.
      let answers = try await bench.act(Array(repeating: large, count: 12))
      #expect(answers.count == 12)
      let refused = answers.values.filter { $0.code == UInt32(RPCError.Code.resourceExhausted.rawValue) }
      #expect(!refused.isEmpty && refused.count < 12)
      #expect(refused.allSatisfy { $0.message.contains("bytes") && $0.message.contains("Wait for answers") })
      #expect(answers.values.count { $0.code == 0 } == 12 - refused.count)
      // All of it is given back.
      #expect(try await bench.act([large]).values.map(\.code) == [0])
    }
  }

  @Test func `an observation that the model cannot take does not wait for a worker`() async throws {
    let window = Duration.seconds(10)
    try await Bench.run(batcher: Self.held(for: window)) { bench in
      try bench.registry.add("v1", serial: 1)
      _ = try await bench.client.prepare(PrepareRequest(version: "v1"))
      let changes: [@Sendable (inout Observation) -> Void] = [
        { $0.task = "fly" }, { $0.image.append(0) }, { $0.imageHeight = 0 }, { $0.jointAngles.removeLast() },
      ]
      for change in changes {
        var bad = request("v1")
        change(&bad.observation!)
        let sent = bad
        let elapsed = await ContinuousClock().measure {
          #expect(await status { _ = try await bench.client.predict(sent) } == .invalidArgument)
        }
        #expect(elapsed < window / 2)
      }
    }
  }

  @Test func `the last quarter is for small requests of callers that hold nothing`() throws {
    let held = HeldRequests(limits: .init(callerBytes: 640, bytes: 1_280))
    for caller in ["a", "b"] { for _ in 0..<2 { try? held.take(300, of: caller) } }
    // The more is taken, the less may one have: a second 300 was refused to each.
    #expect(held.bytes == 600)
    try held.take(100, of: "c")
    #expect(throws: InferenceError.self) { try held.take(200, of: "d") }
    for caller in 0..<29 { try held.take(20, of: "little \(caller)") }
    #expect(held.bytes == 1_280)
    let refused = #expect(throws: InferenceError.self) { try held.take(1, of: "late") }
    #expect(refused?.code == .busy)
    held.giveBack(100, of: "c")
    try held.take(20, of: "late")
    #expect(throws: InferenceError.self) { try held.take(20, of: "late") }
    #expect(throws: InferenceError.self) { try HeldRequests().take((64 << 20) + 1, of: "one") }
  }
}
