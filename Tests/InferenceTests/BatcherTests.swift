import Artifacts
import Policy
import Schemas
import TestSupport
import Testing

@testable import InferenceCore

@Suite struct BatcherTests {
  private func model(_ registry: FakeRegistry, serial: UInt64) throws -> ServedModel {
    let engine = try registry.add("v\(serial)", serial: serial)
    let signed = try registry.store.manifest(of: "v\(serial)")
    return ServedModel(manifest: try ManifestRules.decode(signed), sha256: signed.sha256, engine: engine)
  }

  /// One thread that waits long enough for everything that a test asks at once.
  private func patient(capacity: Int = 256) -> Batcher {
    var configuration = Batcher.Configuration()
    configuration.workers = 1
    configuration.capacity = capacity
    configuration.window = .milliseconds(900)
    let batcher = Batcher(configuration)
    batcher.streamsChanged(by: 2)
    return batcher
  }

  @Test func whatSeveralRobotsAskTogetherIsAnsweredTogetherAndTheSame() async throws {
    let registry = try FakeRegistry()
    let models = try [self.model(registry, serial: 1), self.model(registry, serial: 2)]
    let batcher = self.patient()
    try await withThrowingTaskGroup(of: (step: Int, answer: Batcher.Answer).self) { group in
      for step in 0..<6 {
        group.addTask {
          (
            step,
            try await batcher.act(
              observation(step: step), model: models[step % 2], of: "r\(step)", before: nil)
          )
        }
      }
      var sizes: [Int] = []
      for try await (step, answer) in group {
        #expect(isClose(answer.actions, try models[step % 2].engine.action(observation(step: step))))
        sizes.append(answer.batchSize)
      }
      // A batch never mixes models, and the window brought observations together.
      #expect(sizes.allSatisfy { (1...3).contains($0) } && sizes.contains { $0 > 1 })
    }
  }

  @Test func moreThanMayWaitIsRefusedAndTheRestIsAnswered() async throws {
    let registry = try FakeRegistry()
    let model = try self.model(registry, serial: 1)
    let batcher = self.patient(capacity: 3)
    let codes = await withTaskGroup(of: InferenceError.Code?.self) { group in
      for step in 0..<10 {
        group.addTask {
          await code {
            _ = try await batcher.act(observation(step: step), model: model, of: "r\(step)", before: nil)
          }
        }
      }
      return await group.reduce(into: [InferenceError.Code?]()) { $0.append($1) }
    }
    #expect(codes.allSatisfy { $0 == nil || $0 == .busy })
    #expect(codes.count { $0 == nil } >= 3 && codes.contains(.busy))
  }

  @Test func `one caller takes no other's place, and who goes gives his back`() async throws {
    let registry = try FakeRegistry()
    let model = try self.model(registry, serial: 1)
    var configuration = Batcher.Configuration()
    (configuration.workers, configuration.capacity, configuration.window) = (1, 8, .seconds(3_600))
    let batcher = Batcher(configuration)
    // The only worker waits for others first, for an hour.
    batcher.streamsChanged(by: 2)
    let act: @Sendable (String) async -> InferenceError.Code? = { caller in
      await code { _ = try await batcher.act(observation(), model: model, of: caller, before: nil) }
    }
    let greedy = (0..<8).map { _ in Task { await act("greedy") } }
    try await eventually("it has what it may have") { batcher.waiting == 3 }
    let others = (0..<3).map { number in Task { await act("r\(number)") } }
    try await eventually("others find places") { batcher.waiting == 6 }
    #expect(await act("r0") == .busy)
    for task in greedy + others { task.cancel() }
    try await eventually("all places are free") { batcher.waiting == 0 }
    var refused = 0
    for task in greedy where await task.value == .busy { refused += 1 }
    #expect(refused == 5)
  }

  @Test func oneThatExpiredInTheQueueIsNotAnsweredAndTheOthersAre() async throws {
    let registry = try FakeRegistry()
    let model = try self.model(registry, serial: 1)
    let batcher = Batcher()
    let late = await code {
      _ = try await batcher.act(observation(), model: model, of: "r", before: .now - .seconds(1))
    }
    #expect(late == .expired)
    #expect(
      try await batcher.act(observation(), model: model, of: "r", before: .now + .seconds(600)).batchSize == 1
    )
  }

  @Test func quantilesAreThoseOfTheNewestTimes() {
    var window = LatencyWindow()
    #expect(window.quantile(0.5) == 0)
    for micros in 1...100 { window.add(micros: UInt64(micros)) }
    #expect(window.quantile(0.5) == 50 && window.quantile(0.99) == 99 && window.quantile(1) == 100)
    for _ in 0..<LatencyWindow.capacity { window.add(micros: 7) }
    #expect(window.quantile(0.01) == 7 && window.quantile(1) == 7)
    #expect(window.count == UInt64(100 + LatencyWindow.capacity))
  }
}
