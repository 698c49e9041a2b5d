import Schemas
import Testing

@testable import FleetCore

@Suite("WorkBook")
struct WorkBookTests {
  private func units(_ count: Int) -> [WorkUnit] {
    (0..<count).map { WorkUnit(task: "reach", mode: .policy, seed: UInt64($0)) }
  }

  private func stored(_ assignment: WorkBook.Assignment, _ outcome: Outcome = .success) -> TrialSummary {
    TrialSummary(
      header: TrialHeader(task: "reach", seed: assignment.unit.seed, orderID: assignment.orderID),
      end: TrialEnd(outcome: outcome))
  }

  @Test func `work is spread over robots, two orders each`() {
    var book = WorkBook(self.units(10), prefix: "x")
    let first = book.assign(to: ["a", "b"])
    #expect(first.map(\.robot) == ["a", "b", "a", "b"])
    #expect(book.assign(to: ["a", "b"]).isEmpty)
    book.note(self.stored(first[0]))
    #expect(book.assign(to: ["a", "b"]).map(\.robot) == ["a"])
  }

  @Test func `every unit is done once all trials are stored`() {
    var book = WorkBook(self.units(7), prefix: "x")
    var rounds = 0
    while !book.isDone, rounds < 100 {
      for assignment in book.assign(to: ["a", "b", "c"]) { book.note(self.stored(assignment)) }
      rounds += 1
    }
    #expect(book.isDone)
    #expect(Set(book.finished.values.compactMap { $0.header?.seed }) == Set(0..<7))
  }

  @Test func `a robot that drops out loses its work to the others`() {
    var book = WorkBook(self.units(2), prefix: "x")
    let first = book.assign(to: ["a"])
    #expect(first.count == 2)
    book.takeBack(robot: "a")
    let second = book.assign(to: ["b"])
    #expect(Set(second.map(\.unit)) == Set(first.map(\.unit)))
    #expect(Set(second.map(\.orderID)).isDisjoint(with: first.map(\.orderID)))
  }

  @Test func `orders that are taken back are cancelled where they were, until that is known`() {
    var book = WorkBook(self.units(2), prefix: "x")
    let first = book.assign(to: ["a"])
    book.takeBack(robot: "a")
    #expect(book.withdrawn == [first[0].orderID: "a", first[1].orderID: "a"])
    book.noteCancelled(orderID: first[0].orderID)
    #expect(book.withdrawn == [first[1].orderID: "a"])
  }

  @Test func `work that is taken back was not tried`() {
    var book = WorkBook(self.units(1), prefix: "x")
    for _ in 0..<10 {
      #expect(book.assign(to: ["a"]).count == 1)
      book.takeBack(robot: "a")
    }
    #expect(book.givenUp.isEmpty && book.waitingUnits == 1)
  }

  @Test func `aborted trials are tried again, not for ever`() {
    var book = WorkBook(self.units(1), prefix: "x")
    for _ in 0..<3 {
      let assignments = book.assign(to: ["a"])
      #expect(assignments.count == 1)
      for assignment in assignments { book.note(self.stored(assignment, .aborted)) }
    }
    #expect(book.isDone)
    #expect(book.givenUp.count == 1)
    #expect(book.finished.isEmpty)
  }

  @Test func `dropping what waits leaves what was begun`() {
    var book = WorkBook(self.units(9), prefix: "x")
    let begun = book.assign(to: ["a"])
    book.dropWaiting()
    #expect(!book.isDone)
    for assignment in begun { book.note(self.stored(assignment)) }
    #expect(book.isDone)
    #expect(book.finished.count == begun.count)
  }
}

@Suite("LoopPlan")
struct LoopPlanTests {
  @Test func `layouts that measure success are never learnt from, nor used twice`() {
    var seeds = SeedAllocator()
    let training = seeds.training("reach", count: 50) + seeds.training("reach", count: 50)
    let evaluation = seeds.evaluation("reach", count: 50) + seeds.evaluation("reach", count: 50)
    #expect(Set(training).count == 100)
    #expect(Set(evaluation).count == 100)
    #expect(Set(training).isDisjoint(with: evaluation))
  }

  @Test(arguments: [LoopPlan.full, LoopPlan.quick])
  func `a plan has what the loop needs`(plan: LoopPlan) {
    #expect(plan.robots.count == 4)
    #expect(Set(plan.robots).count == 4)
    #expect(!plan.tasks.contains(plan.newTask))
    // More than 5 failures in a row take a robot out.
    #expect(plan.brokenTrials > 6)
  }

  @Test func `the full plan measures v2 on at least 50 trials of at least 5 tasks`() {
    #expect(LoopPlan.full.tasks.count >= 5)
    #expect(LoopPlan.full.trialsPerArm >= 50)
  }
}
