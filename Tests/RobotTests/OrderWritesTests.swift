import Foundation
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

@Suite("Writes of orders", .timeLimit(.minutes(5)))
struct OrderWritesTests {
  /// Counts the files that are made, and refuses them while told to.
  private final class CountingDisk: DiskDouble {
    let inner = SystemDisk()
    let made = Atomic<Int>(0)
    let refuses = Atomic<Bool>(false)

    func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError)
      -> any DiskFile
    {
      if access == .create {
        self.made.add(1, ordering: .relaxed)
        if self.refuses.load(ordering: .relaxed) { throw StorageError(.diskFull, "\(path): no room.") }
      }
      return try self.inner.open(path, access, mode: mode)
    }
  }

  private let folder: TemporaryFolder
  private let disk = CountingDisk()
  private let condition: Condition
  private let queue: WorkQueue

  init() throws {
    self.folder = try TemporaryFolder()
    let condition = try Condition(folder: self.folder.path)
    self.condition = condition
    self.queue = try WorkQueue(folder: self.folder.path, disk: self.disk) { condition.standing }
  }

  private var writes: Int { self.disk.made.load(ordering: .relaxed) }

  @Test func `what changes nothing writes nothing, so that no number of calls holds up a stop`() async throws
  {
    _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
    #expect(self.writes == 1)
    for _ in 0..<50 {
      try await self.queue.cancel(orderID: "b")
      _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
      await self.queue.resume(continuing: true, after: 0)
    }
    #expect(self.writes == 1)
    for _ in 0..<50 {
      self.condition.stop(reason: "a hand in the cell")
      await self.condition.keep()
      await self.queue.keep()
    }
    #expect(self.writes == 2)
    try await self.queue.cancel()
    #expect(self.writes == 3)
    for _ in 0..<50 { try await self.queue.cancel() }
    #expect(self.writes == 3)
  }

  @Test func `orders that come at once are written at once, and each is on the disk when it is answered`()
    async throws
  {
    let (queue, folder) = (self.queue, self.folder)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<400 {
        group.addTask {
          _ = try await queue.enqueue(Messages.order("order-\(number)", seeds: [1]))
          guard number % 20 == 0 else { return }
          #expect(
            try await WorkQueue(folder: folder.path).open(atMost: 400).orders.contains {
              $0.orderID == "order-\(number)"
            })
        }
      }
      try await group.waitForAll()
    }
    #expect(self.writes < 100)
    #expect(try WorkQueue(folder: folder.path).counts.waiting == 400)
  }

  @Test func `an order that the disk refuses is not taken, whoever gives it again meanwhile`() async throws {
    self.disk.refuses.store(true, ordering: .relaxed)
    let queue = self.queue
    let taken = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<20 {
        group.addTask { (try? await queue.enqueue(Messages.order("a", seeds: [1]))) != nil }
      }
      return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
    }
    #expect(taken == 0)
    #expect(self.queue.counts.waiting == 0)
    #expect(self.queue.unkept != nil)
    self.disk.refuses.store(false, ordering: .relaxed)
    await self.queue.keep()
    #expect(self.queue.unkept == nil)
    #expect(try await self.queue.enqueue(Messages.order("a", seeds: [1])) == 1)
    #expect(try WorkQueue(folder: self.folder.path).counts.waiting == 1)
  }

  /// What the next agent finds.
  private func restarted() throws -> (condition: Condition, queue: WorkQueue) {
    let condition = try Condition(folder: self.folder.path)
    let queue = try WorkQueue(folder: self.folder.path) { condition.standing }
    condition.count(atLeast: queue.firstStandstills)
    return (condition, queue)
  }

  /// As ``Robot/resume(continuing:reason:)`` does it.
  private func resume(_ condition: Condition, _ queue: WorkQueue, continuing: Bool = false) async {
    await queue.keep()
    condition.resume(reason: "")
    await condition.keep()
    await queue.resume(continuing: continuing, after: condition.standstills)
  }

  @Test(arguments: [false, true])
  func `what was held is held after a restart though the disk refused the orders`(continuing: Bool)
    async throws
  {
    _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
    self.disk.refuses.store(true, ordering: .relaxed)
    self.condition.stop(reason: "a hand in the cell")
    await self.condition.keep()
    await self.resume(self.condition, self.queue, continuing: continuing)
    #expect(self.queue.unkept != nil && self.condition.unkept == nil)
    #expect(self.queue.counts.held == (continuing ? 0 : 1))
    // What the disk did not take nobody may rely on.
    let next = try self.restarted()
    #expect(next.condition.obstacle == nil && next.queue.counts.held == 1)
    #expect(await next.queue.next(within: .zero, modelVersion: "") == nil)
    await next.queue.resume(continuing: true, after: next.condition.standstills)
    let last = try self.restarted()
    #expect(await last.queue.next(within: .zero, modelVersion: "")?.orderID == "a")
  }

  @Test func `an order for afterwards stays one over more stops, but not where it may have been let go`()
    async throws
  {
    self.condition.stop(reason: "lunch")
    await self.condition.keep()
    var order = Messages.order("a", seeds: [1])
    order.whenResumed = true
    _ = try await self.queue.enqueue(order)
    self.condition.stop(reason: "lunch is not over")
    await self.condition.keep()
    await self.queue.keep()
    let next = try self.restarted()
    #expect(next.queue.counts.held == 0 && next.condition.standstills == 2)
    self.disk.refuses.store(true, ordering: .relaxed)
    await self.resume(self.condition, self.queue)
    #expect(self.queue.counts.held == 0)
    self.condition.stop(reason: "a hand in the cell")
    await self.condition.keep()
    await self.resume(self.condition, self.queue)
    #expect(self.queue.counts.held == 1)
    #expect(try self.restarted().queue.counts.held == 1)
  }

  @Test func `a standstill that only the orders know of is not counted twice`() async throws {
    _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
    self.condition.stop(reason: "a hand in the cell")
    await self.condition.keep()
    await self.queue.keep()
    // The disk never had it.
    try FileManager.default.removeItem(atPath: "\(self.folder.path)/condition.json")
    let next = try self.restarted()
    #expect(next.queue.counts.held == 1 && next.condition.standstills == 1)
    await next.queue.resume(continuing: true, after: 1)
    next.condition.stop(reason: "again")
    await next.condition.keep()
    #expect(next.queue.counts.held == 1)
    #expect(try self.restarted().queue.counts.held == 1)
  }

  @Test func `orders that an older agent left, and a bad sector under them`() async throws {
    let message = Messages.order("a", seeds: [1]).serializedBytes()
    let old = withUnsafeBytes(of: UInt32(message.count).littleEndian) { Array($0) } + [0] + message
    try CheckedFile.write(old, to: "\(self.folder.path)/orders", on: SystemDisk())
    #expect(try self.restarted().queue.counts.waiting == 1)
    let disk = FailingDisk()
    disk.spoil("/orders", 0..<4)
    #expect(try WorkQueue(folder: self.folder.path, disk: disk).counts.waiting == 0)
    let told = try DamagedFiles(folder: self.folder.path, disk: disk).waiting.map(\.name)
    #expect(told == ["orders"])
  }

  /// As large as an order may be but for its seeds.
  private static func large(_ id: String) -> WorkOrder {
    var order = Messages.order(id, seeds: [1])
    let text = String(repeating: "x", count: WorkQueue.Limits.textBytes - 2)
    order.options = .init((10..<10 + WorkQueue.Limits.options).map { ("\($0)\(text)", text) }) { $1 }
    return order
  }

  @Test func `orders are refused before they take more room than the next start reads`() async throws {
    var taken = 0
    let error = await #expect(throws: RobotError.self) {
      while taken < 200 {
        _ = try await self.queue.enqueue(Self.large("order-\(taken)"))
        taken += 1
      }
    }
    #expect(error?.code == .tooMuchWork && error?.message.contains("cancel") == true)
    #expect(taken > 100 && self.writes == taken, "what is refused is not written")
    let size = try #require(try self.disk.size(of: "\(self.folder.path)/orders"))
    #expect(size <= WorkQueue.Limits.keptBytes + 100)
    #expect(try WorkQueue(folder: self.folder.path).counts.waiting == UInt32(taken))
    try await self.queue.cancel(orderID: "order-0")
    #expect(try await self.queue.enqueue(Self.large("another")) == UInt32(taken))
  }

  @Test func `orders that are done take no room for what they were`() async throws {
    for number in 0..<150 {
      _ = try await self.queue.enqueue(Self.large("order-\(number)"))
      guard number % 2 == 0 else {
        try await self.queue.cancel(orderID: "order-\(number)")
        continue
      }
      _ = await self.queue.next(within: .zero, modelVersion: "")
      try await self.queue.finished(orderID: "order-\(number)", seed: 1)
    }
    let again = try WorkQueue(folder: self.folder.path)
    #expect(try await again.enqueue(Self.large("order-0")) == 0, "they are known all the same")
    #expect(try await again.enqueue(Self.large("another")) == 1)
  }

  @Test func `so many orders may be open, and one more once another is done`() async throws {
    let queue = self.queue
    let refused = await withTaskGroup(of: RobotError?.self) { group in
      for number in 0..<WorkQueue.Limits.openOrders + 20 {
        group.addTask {
          do throws(RobotError) {
            _ = try await queue.enqueue(Messages.order("order-\(number)", seeds: [1]))
            return nil
          } catch { return error }
        }
      }
      return await group.reduce(into: [RobotError]()) { errors, error in
        if let error { errors.append(error) }
      }
    }
    #expect(refused.count == 20 && refused.allSatisfy { $0.code == .tooMuchWork })
    let again = try WorkQueue(folder: self.folder.path)
    #expect(await again.open(atMost: 1).total == WorkQueue.Limits.openOrders)
    await #expect(throws: RobotError.self) {
      _ = try await again.enqueue(Messages.order("another", seeds: [1]))
    }
    try await again.cancel(orderID: again.open(atMost: 1).orders[0].orderID)
    _ = try await again.enqueue(Messages.order("another", seeds: [1]))
  }
}
