import Schemas
import TestSupport
import Testing

@testable import RobotCore

@Suite struct WorkQueueTests {
  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private func next(_ queue: WorkQueue) async -> WorkItem? {
    await queue.next(within: .zero, modelVersion: "v1")
  }

  @Test func handsOutSeedsInOrder() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    #expect(try await queue.enqueue(Messages.order("a", seeds: [5, 6])) == 2)
    #expect(try await queue.enqueue(Messages.order("b", seeds: [1], mode: .policy)) == 3)
    var seen: [String] = []
    while let item = await self.next(queue) {
      seen.append("\(item.orderID)\(item.seed)")
      #expect(item.modelVersion == "v1")
      try await queue.started(orderID: item.orderID, seed: item.seed)
      #expect(await self.next(queue) == nil, "a robot does one trial at a time")
      try await queue.finished(orderID: item.orderID, seed: item.seed)
    }
    #expect(seen == ["a5", "a6", "b1"])
    #expect(queue.counts.waiting == 0)
    #expect(queue.counts.running == 0)
  }

  @Test func `an id cancels the orders that are named after it, and no others`() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    for (index, id) in ["w", "w-1", "w-12", "w-1-2", "w1-1", "w-x", "other-1"].enumerated() {
      _ = try await queue.enqueue(Messages.order(id, seeds: [UInt64(index)]))
    }
    try await queue.cancel(orderID: "w-1")
    #expect(
      await queue.open(atMost: 9).orders.map(\.orderID) == ["w", "w-12", "w1-1", "w-x", "other-1"])
    try await queue.cancel(orderID: "w")
    #expect(await queue.open(atMost: 9).orders.map(\.orderID) == ["w1-1", "w-x", "other-1"])
  }

  @Test func doesAKnownOrderOnce() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    _ = try await queue.enqueue(Messages.order("a", seeds: [1]))
    #expect(try await queue.enqueue(Messages.order("a", seeds: [1, 2, 3])) == 1)
    _ = await self.next(queue)
    try await queue.finished(orderID: "a", seed: 1)
    #expect(try await queue.enqueue(Messages.order("a", seeds: [1])) == 0)
    let again = try WorkQueue(folder: self.folder.path)
    #expect(try await again.enqueue(Messages.order("a", seeds: [1])) == 0)
  }

  @Test func goesOnAfterARestart() async throws {
    let first = try WorkQueue(folder: self.folder.path)
    _ = try await first.enqueue(Messages.order("a", seeds: [1, 2, 3]))
    _ = await self.next(first)
    try await first.finished(orderID: "a", seed: 1)
    let item = await self.next(first)
    try await first.started(orderID: "a", seed: 2)
    let again = try WorkQueue(folder: self.folder.path)
    #expect(again.counts.waiting == 2)
    #expect(await self.next(again) == item, "a trial that was cut short is done again")
  }

  @Test func `an order whose trials nobody begins is held, told, and lost to nobody`() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    _ = try await queue.enqueue(Messages.order("a", seeds: [1, 2]))
    _ = try await queue.enqueue(Messages.order("b", seeds: [3]))
    for _ in 0..<WorkQueue.Limits.attempts { #expect(await self.next(queue)?.seed == 1) }
    #expect(await self.next(queue)?.orderID == "b", "others do not wait behind it")
    try await queue.finished(orderID: "b", seed: 3)
    #expect(await self.next(queue) == nil && queue.counts.held == 2)
    #expect(await queue.neverBegun.map(\.seed) == [1])
    // Whoever was to tell of it may have ended before.
    let next = try WorkQueue(folder: self.folder.path)
    #expect(next.counts.held == 2)
    #expect(await next.neverBegun.map(\.orderID) == ["a"])
    await next.told(["a"])
    #expect(await next.neverBegun.isEmpty)
    let again = try WorkQueue(folder: self.folder.path)
    #expect(again.counts.held == 2)
    #expect(await again.neverBegun.isEmpty)
    await again.resume(continuing: true, after: 0)
    #expect(await self.next(again)?.seed == 1)
  }

  @Test func `what the robot itself did not let begin is no try of its program`() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    _ = try await queue.enqueue(Messages.order("a", seeds: [1]))
    for _ in 0..<10 {
      #expect(await self.next(queue)?.seed == 1)
      await queue.declined(orderID: "a", seed: 1)
    }
    #expect(await queue.neverBegun.isEmpty)
  }

  @Test func wakesWhoWaits() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    async let item = queue.next(within: .seconds(60), modelVersion: "")
    try await Task.sleep(for: .milliseconds(20))
    _ = try await queue.enqueue(Messages.order("a", seeds: [9]))
    #expect(await item?.seed == 9)
  }

  @Test func cancelsWhatWaitsAndLetsTheRunningTrialEnd() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    _ = try await queue.enqueue(Messages.order("a", seeds: [1, 2]))
    _ = try await queue.enqueue(Messages.order("b", seeds: [3]))
    _ = await self.next(queue)
    try await queue.started(orderID: "a", seed: 1)
    try await queue.cancel(orderID: "a")
    #expect(queue.counts.waiting == 1)
    #expect(queue.counts.running == 1)
    try await queue.cancel()
    #expect(queue.counts.waiting == 0)
    try await queue.finished(orderID: "a", seed: 1)
    #expect(await self.next(queue) == nil)
  }

  @Test func refusesATrialThatWasNotHandedOut() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    _ = try await queue.enqueue(Messages.order("a", seeds: [1]))
    let error = await #expect(throws: RobotError.self) { try await queue.started(orderID: "a", seed: 1) }
    #expect(error?.code == .invalidRequest)
  }

  @Test(arguments: [
    WorkOrder(), Messages.order("", seeds: [1]), Messages.order("a", seeds: []),
    Messages.order("a", seeds: [1, 1]), Messages.order("a", seeds: [1], mode: .unspecified),
    Messages.order("a", seeds: [1], mode: .unrecognized(9)), Messages.order("a", seeds: [1], maxSteps: 0),
    Messages.order(String(repeating: "x", count: 1_000), seeds: [1]),
  ])
  func refusesSenselessOrders(_ order: WorkOrder) async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    let error = await #expect(throws: RobotError.self) { _ = try await queue.enqueue(order) }
    #expect(error?.code == .invalidRequest)
    #expect(queue.counts.waiting == 0)
  }

  @Test func isBounded() async throws {
    let queue = try WorkQueue(folder: self.folder.path)
    let many = (0...UInt64(WorkQueue.Limits.waitingTrials)).map { $0 }
    let error = await #expect(throws: RobotError.self) {
      _ = try await queue.enqueue(Messages.order("a", seeds: many))
    }
    #expect(error?.code == .tooMuchWork)
  }
}
