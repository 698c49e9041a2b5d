import Policy
import Schemas
import TestSupport
import Testing

@testable import TrainingCore

@Suite struct DatasetTests {
  func build(_ trials: [[TrialEvent]], limit: Int = 1 << 24) async throws -> (TrialSamples, Int) {
    let folder = try TemporaryFolder()
    let builder = try DatasetBuilder(
      network: NetworkConfiguration(Synthetic.policy), folder: folder.path, cacheLimit: limit)
    for event in trials.joined() { try await builder.take(event) }
    return (try await builder.finish(), await builder.skipped.count)
  }

  @Test func onlyWhatAnExpertWouldDoIsLearnt() async throws {
    let label: (inout TrialStep) -> Void = { if $0.index % 2 == 0 { $0.expertAction = [0, 0, 0, 7] } }
    let (samples, skipped) = try await self.build([
      Synthetic.trial(1, task: "a"), Synthetic.trial(2, task: "a", outcome: .failure),
      Synthetic.trial(3, task: "a", mode: .policy), Synthetic.trial(4, task: "a", outcome: .aborted),
      Synthetic.trial(5, task: "a", mode: .labelledPolicy, outcome: .failure, change: label),
    ])
    #expect(samples.trials.map(\.key) == ["r1/t1", "r1/t5"])
    #expect(samples.trials.map(\.samples.count) == [12, 6])
    #expect(skipped == 3)
    // Labels are clipped to what a robot can do.
    #expect(Array(samples.actions.suffix(4)) == [0, 0, 0, 1])
  }

  @Test func stepsThatAreNoGoodAreLeftOut() async throws {
    let (samples, skipped) = try await self.build([
      Synthetic.trial(1, task: "a") { if $0.index == 3 { $0.jointAngles[2] = .nan } },
      Synthetic.trial(2, task: "a") { if $0.index == 4 { $0.action[0] = .infinity } },
      Synthetic.trial(3, task: "a") { if $0.index == 5 { $0.jointAngles.removeLast() } },
      Synthetic.trial(4, task: "a") { if $0.index == 6 { $0.image.removeLast() } },
      Array(Synthetic.trial(5, task: "a").dropLast()),
      Synthetic.trial(6, task: "a") { if $0.index == 7 { $0.image = [] } },
    ])
    #expect(samples.trials.map(\.samples.count) == [11, 11, 11])
    #expect(skipped == 3)
    #expect(samples.joints.allSatisfy(\.isFinite) && samples.actions.allSatisfy(\.isFinite))
  }

  @Test func `a lost trial is counted as missing and its neighbours are learnt`() async throws {
    let folder = try TemporaryFolder()
    let builder = try DatasetBuilder(
      network: NetworkConfiguration(Synthetic.policy), folder: folder.path, cacheLimit: 1 << 24)
    let lost = TrialEvent(robot: "r1", trialID: "t2", missing: "damaged")
    for event in Synthetic.trial(1, task: "a") + [lost] + Synthetic.trial(3, task: "a") {
      try await builder.take(event)
    }
    #expect(try await builder.finish().trials.map(\.key) == ["r1/t1", "r1/t3"])
    #expect(await builder.missing == ["r1/t2"])
    #expect(await builder.skipped.isEmpty)
  }

  @Test(arguments: [(1, 1, 1), (99, 1, 1), (250, 1, 2), (250, 10, 25), (250, 0, 0)])
  func `few trials may be missing, by a stated share`(trials: Int, percent: Int, allowed: Int) throws {
    let names = (0..<allowed).map { "r1/t\($0)" }
    try MissingTrials.check(names, of: trials, snapshot: "s", percent: percent)
    let error = #expect(throws: TrainingError.self) {
      try MissingTrials.check(names + ["r1/last"], of: trials, snapshot: "s", percent: percent)
    }
    #expect(error?.code == .noData)
  }

  @Test func aChunkGoesOnWithTheLastAction() async throws {
    let (samples, _) = try await self.build([
      Synthetic.trial(1, task: "a", steps: 3), Synthetic.trial(2, task: "b", steps: 2),
    ])
    var message = Synthetic.policy
    message.actionChunk = 3
    let network = try NetworkConfiguration(message)
    let dataset = TrialDataset(samples, network: network, tasks: ["b", "a"])
    var batch = TrainingBatch(
      count: 2, images: Array(repeating: 0, count: 2 * 768), joints: Array(repeating: 0, count: 14),
      tasks: [0, 0], targets: Array(repeating: 0, count: 24), weights: [1, 1])
    dataset.read([1, 4], into: &batch)
    func action(_ sample: Int) -> [Float] { Array(samples.actions[(sample * 4)..<(sample * 4 + 4)]) }
    #expect(batch.targets == action(1) + action(2) + action(2) + action(4) + action(4) + action(4))
    #expect(batch.tasks == [1, 0])
    #expect(Array(batch.joints.prefix(7)) == Array(samples.joints[7..<14]))
    #expect(batch.images[0] == samples.images.image(1)[0])
  }

  @Test func trialsAreSplitWholeAndTheSameEachTime() async throws {
    let (samples, _) = try await self.build(Synthetic.trials(["a", "b"], each: 10))
    let (training, validation) = samples.split(share: 0.2, seed: 1)
    #expect(validation.count == 4 && training.count == 16)
    #expect(Set(validation.map(\.task)) == ["a", "b"])
    #expect(Set(training.map(\.key)).isDisjoint(with: validation.map(\.key)))
    #expect(samples.split(share: 0.2, seed: 1).validation.map(\.key) == validation.map(\.key))
    #expect(samples.split(share: 0, seed: 1).validation.isEmpty)
  }

  @Test func theCacheIsBounded() async throws {
    await #expect(throws: TrainingError.self) {
      _ = try await self.build(Synthetic.trials(["a"], each: 3), limit: 20_000)
    }
  }
}
