import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import InferenceCore

@Suite struct ActTests {
  @Test func aStreamAnswersEachRequestWithTheVersionItNames() async throws {
    try await Bench.run { bench in
      let engines = [try bench.registry.add("v1", serial: 1), try bench.registry.add("v2", serial: 2)]
      let answers = try await bench.act((0..<40).map { request("v\($0 % 2 + 1)", step: $0) })
      #expect(answers.count == 40)
      for step in 0..<40 {
        let answer = try #require(answers[UInt64(step)])
        #expect(answer.code == 0 && answer.modelVersion == "v\(step % 2 + 1)" && answer.batchSize >= 1)
        #expect(isClose(answer.actions, try engines[step % 2].action(observation(step: step))))
      }
      #expect(bench.registry.fetches.sorted() == ["v1", "v2"])
    }
  }

  @Test func badRequestsAreRefusedWithAReasonAndTheStreamGoesOn() async throws {
    try await Bench.run { bench in
      try bench.registry.add("v1", serial: 1)
      let changes: [(inout Observation) -> Void] = [
        { $0.task = "fly" }, { $0.image.removeLast() }, { $0.image = [] }, { $0.imageHeight = .max },
        { $0.imageHeight = 0 }, { $0.jointAngles[3] = .nan }, { $0.jointAngles.removeLast() },
      ]
      var bad = [ActRequest(modelVersion: "v1")]
      for change in changes {
        var seen = observation()
        change(&seen)
        bad.append(ActRequest(observation: seen, modelVersion: "v1"))
      }
      let answers = try await bench.act(bad + [request("v1")])
      for index in bad.indices {
        #expect(answers[UInt64(index)]?.code == UInt32(RPCError.Code.invalidArgument.rawValue))
        #expect(answers[UInt64(index)]?.actions == [])
      }
      #expect(answers[1]?.message.contains("open, close") == true)
      #expect(answers[UInt64(bad.count)]?.code == 0)
      for request in bad {
        #expect(await status { _ = try await bench.client.predict(request) } == .invalidArgument)
      }
      let seen = try await bench.client.getStatus(GetInferenceStatusRequest())
      #expect(seen.refused == UInt64(2 * bad.count) && seen.requests == seen.refused + 1)
      #expect(seen.models.map(\.requests) == [1])
    }
  }

  @Test func aRequestWhoseTimeIsOverCostsNothing() async throws {
    let (folder, registry) = (try TemporaryFolder(), try FakeRegistry())
    defer { withExtendedLifetime(folder) {} }
    let inference = try Bench.inference(
      folder: folder, key: registry.key,
      source: ModelSource(
        fetch: { _, _ in Issue.record("A request that had expired caused a fetch.") }, list: { [] }))
    let late = await code {
      _ = try await inference.act(request("v1", budgetMicros: 1), of: "robot", arrival: .now - .seconds(1))
    }
    #expect(late == .expired)
    #expect(inference.status.expired == 1 && inference.status.refused == 0)
  }

  @Test func aRequestDoesNotWaitForALoadLongerThanItsBudget() async throws {
    let (folder, registry) = (try TemporaryFolder(), try FakeRegistry())
    defer { withExtendedLifetime(folder) {} }
    try registry.add("v1", serial: 1)
    let (gate, open) = AsyncStream.makeStream(of: Void.self)
    let inference = try Bench.inference(
      folder: folder, key: registry.key,
      source: ModelSource(
        fetch: { request, take in
          for await _ in gate { break }
          try await registry.source.fetch(request, take)
        }, list: { [] }))
    let impatient = await code {
      _ = try await inference.act(request("v1", budgetMicros: 1_000), of: "robot", arrival: .now)
    }
    #expect(impatient == .expired)
    // The load goes on without it.
    open.yield()
    #expect(try await inference.prepare("v1").version == "v1")
    #expect(try await inference.act(request(), of: "robot", arrival: .now).modelVersion == "v1")
  }
}
