import Schemas
import Testing

@testable import MonitorCore

@Suite("Catching up with ingest, as a value")
struct CatchUpTests {
  /// As ingest lists them: in the order of storing, whatever their times are.
  private func trials(
    _ range: Range<Int>, robot: String = "a", outcome: Outcome = .failure, storedUnixNanos: Int64 = 0
  ) -> [TrialSummary] {
    range.map {
      TrialSummary(
        header: TrialHeader(trialID: "t\($0)", robot: robot), end: TrialEnd(outcome: outcome),
        storedUnixNanos: storedUnixNanos)
    }
  }

  private func catchUp(_ state: inout MonitorState, _ list: [TrialSummary]) {
    var catchUp = TrialCatchUp(from: state.cursor)
    for start in stride(from: 0, to: list.count, by: 7) where !catchUp.isComplete {
      catchUp.add(Array(Array(list.reversed())[start..<min(list.count, start + 7)]))
    }
    state.hear(catchUp, salt: "s", now: 1)
  }

  @Test func `a jump of ingest's clock hides no trial`() {
    var state = MonitorState()
    var list = self.trials(0..<1, storedUnixNanos: .max)
    self.catchUp(&state, list)
    // Everything after has a time long before the first.
    list += self.trials(1..<4, storedUnixNanos: 1_000)
    self.catchUp(&state, list)
    #expect(state.robots["a"]?.consecutiveFailures == 4)
  }

  @Test func `only what lies behind the cursor is read`() {
    var state = MonitorState()
    let list = self.trials(0..<100)
    self.catchUp(&state, list)
    #expect(state.cursor == TrialCursor(robot: "a", trialID: "t99"))
    var again = TrialCatchUp(from: state.cursor)
    again.add(list.reversed())
    #expect(again.trials.isEmpty)
    #expect(again.isComplete)
  }

  @Test func `trials that were told at once and listed later are counted once, missed ones too`() {
    var state = MonitorState()
    let list = self.trials(0..<6)
    self.catchUp(&state, Array(list.prefix(2)))
    // 3 and 5 were told; 2 and 4 were lost on the way.
    for index in [3, 5] { state.hear(robot: "a", trialID: "t\(index)", outcome: .failure, salt: "s", now: 1) }
    #expect(state.robots["a"]?.consecutiveFailures == 4)
    self.catchUp(&state, list)
    #expect(state.robots["a"]?.consecutiveFailures == 6)
  }

  @Test func `a catalog that was made anew counts no trial twice`() {
    var state = MonitorState()
    state.limits.failures = .max
    let list = self.trials(0..<1_000)
    self.catchUp(&state, list)
    #expect(state.robots["a"]?.consecutiveFailures == 1_000)
    // The cursor's trial is lost with the last ones; two new ones came: the list is read as far as it goes.
    self.catchUp(&state, Array(list.prefix(950)) + self.trials(1_000..<1_002))
    #expect(state.robots["a"]?.consecutiveFailures == 1_002)
    #expect(state.cursor == TrialCursor(robot: "a", trialID: "t1001"))
    // One that a monitor never heard counts from its own first trial.
    let other = self.trials(0..<3, robot: "b")
    self.catchUp(&state, other + list.prefix(800) + self.trials(1_002..<1_003))
    #expect(state.robots["b"]?.consecutiveFailures == 3)
    #expect(state.robots["a"]?.consecutiveFailures == 1_003)
  }

  @Test func `an old catalog brought back counts nothing again, and what is stored from then on`() {
    var state = MonitorState()
    state.limits.failures = .max
    self.catchUp(&state, self.trials(0..<1_000))
    // All that the robot remembers is gone.
    let old = self.trials(0..<500)
    self.catchUp(&state, old)
    #expect(state.robots["a"]?.consecutiveFailures == 1_000)
    self.catchUp(&state, old + self.trials(2_000..<2_002))
    #expect(state.robots["a"]?.consecutiveFailures == 1_002)
  }

  @Test func `what is read at once is bounded`() {
    var catchUp = TrialCatchUp(from: nil)
    let note = String(repeating: "x", count: 10_000)
    for trial in self.trials(0..<(TrialCatchUp.capacity + 500)) {
      var trial = trial
      trial.header?.labels["note"] = note
      catchUp.add([trial])
    }
    #expect(catchUp.isComplete)
    #expect(catchUp.trials.count == TrialCatchUp.capacity)
    #expect(catchUp.trials.reduce(0) { $0 + $1.serializedSize } < 200 * TrialCatchUp.capacity)
  }
}
