import Schemas
import Testing

@testable import RobotCore

@Suite struct ActionLimitsTests {
  @Test(
    arguments: [
      ([0.5, -0.5, 1, -1], [0.5, -0.5, 1, -1], nil), ([2, -3, 0, 25], [1, -1, 0, 1], "action-clipped"),
      ([.nan, 0, 0, 0], [0, 0, 0, 0.25], "not-finite"),
      ([.infinity, 0, 0, 0], [0, 0, 0, 0.25], "not-finite"),
      ([0, 0, 0], [0, 0, 0, 0.25], "not-finite"), ([], [0, 0, 0, 0.25], "not-finite"),
    ] as [([Float], [Float], String?)])
  func boundsEveryAction(asked: [Float], allowed: [Float], event: String?) {
    let verdict = ActionLimits().limit(asked, previous: [0, 0, 0, 0.25])
    #expect(verdict == .init(action: allowed, limited: event != nil, event: event))
  }

  @Test func boundsTheChange() {
    let verdict = ActionLimits(maximumChange: 0.25).limit([1, -1, 0.1, 0], previous: [0, 0, 0, 0])
    #expect(verdict.action == [0.25, -0.25, 0.1, 0])
    #expect(verdict.event == "action-clipped")
  }

  @Test(arguments: 0..<7) func knowsEachJointsRange(joint: Int) {
    let limits = ActionLimits(jointMargin: 0.1)
    let range = ActionLimits.sawyerJoints[joint]
    for (angle, violates) in [
      (range.upperBound + 0.05, false), (range.upperBound + 0.15, true), (range.lowerBound - 0.05, false),
      (range.lowerBound - 0.15, true),
    ] {
      var angles = [Float](repeating: 0, count: 7)
      angles[joint] = angle
      #expect((limits.jointViolation(angles) != nil) == violates)
    }
  }
}

private struct RemoteStub: RemotePolicy {
  var answer: ActResponse?
  func act(_ observation: Observation, version: String, sha256: [UInt8], budget: Duration) async
    -> ActResponse?
  {
    self.answer
  }
}

@Suite struct ActionSourceTests {
  private let answer = ActResponse(actions: [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], modelVersion: "v1")

  @Test func asksInferenceFirst() async {
    var source = ActionSource(
      remote: RemoteStub(answer: self.answer), local: .init(FixedPolicy()), budget: .seconds(1))
    for _ in 0..<2 {
      let choice = await source.choose(for: Observation(), previous: [0, 0, 0, 0])
      #expect(choice.action == [1, 1, 1, 1])
      #expect(choice.modelVersion == "v1")
      #expect(!choice.fallback)
    }
  }

  @Test func executesAChunkWhereToldTo() async {
    var source = ActionSource(
      remote: RemoteStub(answer: self.answer), local: .init(FixedPolicy()), budget: .seconds(1),
      executedOfChunk: 2)
    var first: [Float] = []
    for _ in 0..<4 {
      first.append(await source.choose(for: Observation(), previous: [0, 0, 0, 0]).action[0])
    }
    #expect(first == [1, 0.5, 1, 0.5])
  }

  @Test func fallsBackOnItsOwnModel() async {
    var source = ActionSource(
      remote: RemoteStub(answer: nil), local: .init(FixedPolicy()), budget: .seconds(1))
    let choice = await source.choose(for: Observation(), previous: [0, 0, 0, 0])
    #expect(choice.action == [0.1, 0.2, 0.3, 0.4])
    #expect(choice.fallback)
    var alone = ActionSource(remote: nil, local: .init(FixedPolicy()), budget: .seconds(1))
    #expect(await !alone.choose(for: Observation(), previous: [0, 0, 0, 0]).fallback)
  }

  @Test func holdsWhereNobodyCanAct() async {
    let previous: [Float] = [0.4, 0.4, 0.4, -0.7]
    for local in [nil, BrokenPolicy(), FixedPolicy(actions: [1, 2, 3])] as [(any LocalPolicy)?] {
      var source = ActionSource(
        remote: RemoteStub(answer: nil), local: local.map { .init($0) }, budget: .seconds(1))
      let choice = await source.choose(for: Observation(), previous: previous)
      #expect(choice.action == [0, 0, 0, -0.7])
      #expect(choice.fallback)
    }
  }
}
