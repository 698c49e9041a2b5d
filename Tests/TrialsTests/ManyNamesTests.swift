import Schemas
import Testing

@testable import Trials

/// Names of tasks, versions and releases come from robots, and nothing bounds how many there are.
@Suite("TrialCatalog, many names")
struct ManyNamesTests {
  private static func row(
    _ index: Int, robot: String, task: String
  ) -> TrialRow {
    let header = TrialHeader(trialID: "t-\(index)", robot: robot, task: task, mode: .policy)
    let events: [TrialEvent.Event] = [.header(header), .end(TrialEnd(outcome: .success, steps: 1))]
    let trial = TrialRecord(
      events: events.enumerated().map {
        TrialEvent(robot: robot, trialID: "t-\(index)", number: UInt32($0.offset), event: $0.element)
      })
    return TrialRow(
      trial, position: LogPosition(file: "f", offset: index * 100, length: 100), reasons: [],
      storedUnixNanos: Int64(index))
  }

  /// Two robots with their few tasks, and a third with as many names as it likes, each a trial.
  private static func cells(names: Int, _ cell: (Int) -> OutcomeCount) -> [OutcomeCount] {
    let honest = (0..<10).map {
      OutcomeCount(task: "task-\($0)", robot: "robot-\($0 % 2)", successes: 8, trials: 8)
    }
    return honest + (0..<names).map(cell)
  }

  private static func expectTruth(_ counts: [OutcomeCount], names: Int) throws {
    let answer = SummarizeOutcomesResponse(counts: counts)
    #expect(try SummarizeOutcomesResponse(serializedBytes: answer.serializedBytes()) == answer)
    #expect(counts.reduce(0) { $0 + $1.trials } == UInt64(names + 80))
    #expect(counts.reduce(0) { $0 + $1.successes } == UInt64(names + 80))
    for index in 0..<10 {
      let cells = counts.filter { $0.robot == "robot-\(index % 2)" && $0.task == "task-\(index)" }
      #expect(cells.map(\.trials) == [8])
    }
  }

  @Test func `cells without room are counted together, and sums stay true`() throws {
    let names = 500
    var cells = OutcomeCells(room: 20_000)
    let all = Self.cells(names: names) {
      let name = "\($0)-" + String(repeating: "x", count: 100)
      return OutcomeCount(
        task: name, modelVersion: name, robot: "wrong", successes: 1, trials: 1, releaseID: name)
    }
    for cell in all { cells.add(cell) }
    #expect(SummarizeOutcomesResponse(counts: cells.counts).serializedSize < 3 * 20_000)
    try Self.expectTruth(cells.counts, names: names)
  }

  /// A small cell takes far more memory than bytes, which is bounded too.
  @Test func `an answer of many short names can be read`() throws {
    let names = 12_000
    let all = Self.cells(names: names) {
      OutcomeCount(
        task: String($0, radix: 36), modelVersion: $0 % 2 == 0 ? "a" : "b", robot: "w", successes: 1,
        trials: 1)
    }
    let answer = SummarizeOutcomesResponse(counts: all)
    #expect(throws: SchemaError.self) {
      try SummarizeOutcomesResponse(serializedBytes: answer.serializedBytes())
    }
    var cells = OutcomeCells(room: TrialCatalog.maximumPageBytes)
    for cell in all { cells.add(cell) }
    let counts = cells.readable()
    try Self.expectTruth(counts, names: names)
    // What goes first is the task: an experiment's arms keep their counts.
    for version in ["a", "b"] {
      let arm = counts.filter { $0.robot == "w" && $0.modelVersion == version }
      #expect(arm.reduce(0) { $0 + $1.trials } == UInt64(names / 2))
    }
  }

  @Test func `robots' largest cells come first, as many of each, and answers are in order`() async throws {
    let catalog = try TrialCatalog(path: nil)
    let rows = (0..<24).map { Self.row($0, robot: "robot-\($0 % 2)", task: "task-\($0 % 3)") }
    try catalog.add(rows, files: [])
    let counts = try await catalog.outcomes(.init())
    #expect(counts.map(\.task) == ["task-0", "task-0", "task-1", "task-1", "task-2", "task-2"])
    #expect(counts.map(\.robot) == (0..<6).map { "robot-\($0 % 2)" })
    #expect(counts.map(\.trials) == Array(repeating: 4, count: 6))
    #expect(counts.map(\.successes) == Array(repeating: 4, count: 6))
  }

  @Test func `a snapshot names the tasks with most trials, and counts the others`() async throws {
    let catalog = try TrialCatalog(path: nil)
    let names = TrialCatalog.maximumTasks + 500
    let rows =
      (0..<80).map { Self.row($0, robot: "robot-0", task: "task-\($0 % 10)") }
      + (100..<100 + names).map { Self.row($0, robot: "wrong", task: "\($0)") }
    try catalog.add(rows, files: [])
    let snapshot = try await catalog.selection(of: .init()).snapshot
    #expect(snapshot.trials == UInt64(names + 80))
    #expect(snapshot.trialsPerTask.count == TrialCatalog.maximumTasks + 1)
    #expect(snapshot.trialsPerTask.values.reduce(0, +) == snapshot.trials)
    for index in 0..<10 { #expect(snapshot.trialsPerTask["task-\(index)"] == 8) }
  }
}
