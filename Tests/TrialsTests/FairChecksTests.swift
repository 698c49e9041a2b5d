import Dispatch
import Foundation
import Schemas
import Storage
import Testing

@testable import Trials

@Suite("Fair checks", .timeLimit(.minutes(5)))
struct FairChecksTests {
  @Test func `robots take turns, each in its own order`() {
    var queue = FairQueue<Int>()
    for number in 0..<4 { queue.append(number, of: "a") }
    queue.append(10, of: "b")
    queue.append(20, of: "c")
    queue.append(11, of: "b")
    var order: [Int] = []
    while let next = queue.popFirst() { order.append(next) }
    #expect(order == [0, 10, 20, 1, 11, 2, 3])
    #expect(queue.popFirst() == nil)
    queue.append(5, of: "a")
    #expect(queue.popFirst() == 5)
  }

  /// Runs what it is given once it is let go.
  private final class HeldExecutor: SerialExecutor {
    private let queue = DispatchQueue(label: "test.checks")

    init() { self.queue.suspend() }

    func letGo() { self.queue.resume() }

    func enqueue(_ job: consuming ExecutorJob) {
      let job = UnownedJob(job)
      self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
  }

  @Test func `a robot's queue of checks does not come before another robot's one`() async throws {
    let executor = HeldExecutor()
    var runtime = Runtime.system
    let make = runtime.makeSerialExecutor
    runtime.makeSerialExecutor = { $0 == "fleetloop.trials.checks" ? executor : make($0) }
    var configuration = TrialStore.Configuration()
    configuration.checkThreads = 1
    try await withTemporaryFolder { folder in
      let store = try TrialStore(
        folder: folder.path, configuration: configuration, disk: SystemDisk(), runtime: runtime,
        catalog: try TrialCatalog(path: nil))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<20 {
          let trial = try SampleTrial.make(robot: "busy", id: "t-\(number)", steps: 1)
          group.addTask { _ = try await store.store(trial) }
        }
        try await Self.wait { await store.trialsUnderWay == 20 }
        let trial = try SampleTrial.make(robot: "late", id: "t-1", steps: 1)
        group.addTask { _ = try await store.store(trial) }
        try await Self.wait { await store.trialsUnderWay == 21 }
        executor.letGo()
        try await group.waitForAll()
      }
      let stored = try await store.catalog.trials(.init(includeQuarantined: true), limit: 100, after: nil)
        .trials
      #expect(stored.count == 21)
      // One of the other's is being checked when it comes, and one more has its turn before.
      #expect(stored.prefix(3).contains { $0.header?.robot == "late" })
    }
  }

  private static func wait(for condition: () async -> Bool) async throws {
    while await !condition() { try await Task.sleep(for: .milliseconds(5)) }
  }
}
