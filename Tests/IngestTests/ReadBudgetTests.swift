import Bus
import GRPCCore
import Testing

@testable import IngestCore

@Suite("ReadBudget", .timeLimit(.minutes(5)))
struct ReadBudgetTests {
  /// Reads that were let in, in order, and stay until they are ended.
  private final class Reads: Sendable {
    let budget: ReadBudget
    let began = AsyncStream<String>.makeStream()

    init(patience: Duration = .seconds(600)) {
      self.budget = ReadBudget(limits: .init(bytes: 100, callerBytes: 40, patience: patience))
    }

    /// Returns once the read was let in, or stands in line.
    func begin(_ caller: String, _ bytes: Int, _ name: String) async -> Task<Void, any Error> {
      let (before, waiting) = (self.budget.bytes, self.budget.waiting)
      let task = Task {
        try await self.budget.during(caller, bytes: bytes) {
          self.began.continuation.yield(name)
          try await Task.sleep(for: .seconds(600))
        }
      }
      while self.budget.bytes == before, self.budget.waiting == waiting { await Task.yield() }
      return task
    }
  }

  private static func end(_ tasks: Task<Void, any Error>...) async {
    for task in tasks {
      task.cancel()
      _ = await task.result
    }
  }

  @Test func `one trial is always read, and a second of its caller waits for it`() async throws {
    let reads = Reads()
    var began = reads.began.stream.makeAsyncIterator()
    let large = await reads.begin("a", 60, "large")
    let small = await reads.begin("a", 1, "small")
    #expect(reads.budget.bytes == 60 && reads.budget.waiting == 1)
    // One that waits for its own caller's bytes holds up nobody.
    let other = await reads.begin("b", 40, "other")
    #expect(reads.budget.bytes == 100 && reads.budget.waiting == 1)
    await Self.end(large)
    #expect(await began.next() == "large")
    #expect(await began.next() == "other")
    #expect(await began.next() == "small")
    await Self.end(small, other)
    #expect(reads.budget.bytes == 0 && reads.budget.waiting == 0)
  }

  @Test func `a trial larger than all has its turn, and nobody overtakes it`() async throws {
    let reads = Reads()
    var began = reads.began.stream.makeAsyncIterator()
    let first = await reads.begin("a", 10, "first")
    let huge = await reads.begin("b", 1_000, "huge")
    let late = await reads.begin("c", 10, "late")
    #expect(reads.budget.bytes == 10 && reads.budget.waiting == 2)
    await Self.end(first)
    #expect(await began.next() == "first")
    #expect(await began.next() == "huge")
    #expect(reads.budget.bytes == 100 && reads.budget.waiting == 1)
    await Self.end(huge)
    #expect(await began.next() == "late")
    await Self.end(late)
  }

  @Test func `one that waits can be cancelled, and lets in who waited behind it`() async throws {
    let reads = Reads()
    let first = await reads.begin("a", 90, "first")
    let second = await reads.begin("b", 20, "second")
    let third = await reads.begin("c", 10, "third")
    #expect(reads.budget.bytes == 90 && reads.budget.waiting == 2)
    await Self.end(second)
    #expect(reads.budget.bytes == 100 && reads.budget.waiting == 0)
    await Self.end(first, third)
    #expect(reads.budget.bytes == 0)
  }

  @Test func `one that waits too long is told so`() async throws {
    let reads = Reads(patience: .milliseconds(50))
    let first = await reads.begin("a", 100, "first")
    let error = await #expect(throws: RPCError.self) { try await reads.budget.during("b", bytes: 1) {} }
    #expect(error?.code == .resourceExhausted)
    #expect(reads.budget.waiting == 0)
    await Self.end(first)
    // By then the bus has ended whoever does not read.
    #expect(ReadBudget.Limits().patience > CallLimits().idleLimit * 5 / 4)
  }
}
