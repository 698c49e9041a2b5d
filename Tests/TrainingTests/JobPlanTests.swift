import Policy
import Schemas
import Testing

@testable import TrainingCore

@Suite struct JobPlanTests {
  func plan(
    _ kind: TrainingKind, parent: [String] = [], data: Set<String>, query: [String] = [], new: [String] = [],
    configuration: TrainingConfiguration = .init()
  ) throws -> JobPlan {
    try JobPlan(
      kind: kind, request: StartTrainingRequest(query: TrialQuery(tasks: query), newTasks: new),
      parentTasks: parent,
      dataTasks: data, options: TrainingOptions(configuration))
  }

  @Test func headsKeepTheirOrder() throws {
    #expect(try self.plan(.pretrain, data: ["b", "a"]).tasks == ["a", "b"])
    #expect(try self.plan(.pretrain, data: ["b", "a"], query: ["b", "a"]).tasks == ["b", "a"])
    #expect(try self.plan(.update, parent: ["z", "b"], data: ["a", "b"]).tasks == ["z", "b", "a"])
    #expect(try self.plan(.finetune, parent: ["z"], data: ["a", "b", "z"], new: ["b"]).tasks == ["z", "b"])
  }

  @Test func replayTakesItsShareOfEachBatch() throws {
    let replay = TrainingConfiguration(replayShare: 0.25)
    let plan = try self.plan(.finetune, parent: ["x", "y"], data: ["x", "y", "n"], configuration: replay)
    #expect(plan.shares == ["n": 0.75, "x": 0.125, "y": 0.125])
    #expect(plan.firstLearningTask == nil)
    let frozen = TrainingConfiguration(replayShare: 0.25, freezeEncoder: true)
    let head = try self.plan(.finetune, parent: ["x", "y"], data: ["x", "n"], configuration: frozen)
    #expect(head.shares == ["n": 1, "x": 0])
    #expect(head.firstLearningTask == 2)
    #expect(try self.plan(.update, parent: ["x"], data: ["x", "n"]).shares == ["x": 1, "n": 1])
  }

  @Test func whatCannotBeLearntIsNamed() throws {
    #expect(throws: TrainingError.self) { try self.plan(.pretrain, data: []) }
    #expect(throws: TrainingError.self) { try self.plan(.pretrain, data: ["a"], query: ["a", "b"]) }
    #expect(throws: TrainingError.self) { try self.plan(.finetune, parent: ["a"], data: ["a"]) }
    #expect(throws: TrainingError.self) {
      try self.plan(.finetune, parent: ["a"], data: ["a", "b"], new: ["a"])
    }
    #expect(throws: TrainingError.self) {
      try self.plan(.finetune, parent: ["a"], data: ["a", "b"], new: ["c"])
    }
  }

  @Test func `more tasks than a model may have are told before they are learned`() throws {
    let tasks = (0..<1_000).map { "task-\($0)" }
    #expect(try self.plan(.pretrain, data: Set(tasks)).tasks.count == 1_000)
    #expect(throws: TrainingError.self) { try self.plan(.pretrain, data: Set(tasks + ["other"])) }
    #expect(throws: TrainingError.self) { try self.plan(.update, parent: tasks, data: ["other"]) }
  }

  @Test func transferTakesTenTimesFewerSteps() {
    let whole = JobPlan.configuration(.pretrain, .init())
    let head = JobPlan.configuration(.finetune, .init(freezeEncoder: true))
    #expect(head.optimizerSteps * 10 == whole.optimizerSteps)
    #expect(JobPlan.configuration(.update, .init(optimizerSteps: 7)).optimizerSteps == 7)
  }
}
