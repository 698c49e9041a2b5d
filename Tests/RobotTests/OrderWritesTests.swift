import Foundation
import RobotCore
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@Suite("Writes of orders", .timeLimit(.minutes(1)))
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
  private let queue: WorkQueue

  init() throws {
    self.folder = try TemporaryFolder()
    self.queue = try WorkQueue(folder: self.folder.path, disk: self.disk)
  }

  private var writes: Int { self.disk.made.load(ordering: .relaxed) }

  @Test func `what changes nothing writes nothing, so that no number of calls holds up a stop`() async throws
  {
    _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
    #expect(self.writes == 1)
    for _ in 0..<50 {
      try await self.queue.cancel(orderID: "b")
      _ = try await self.queue.enqueue(Messages.order("a", seeds: [1]))
      await self.queue.resume(continuing: true) { nil }
    }
    #expect(self.writes == 1)
    for _ in 0..<50 { await self.queue.hold() }
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
    #expect(try await WorkQueue(folder: folder.path).waiting == 400)
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
    #expect(await self.queue.waiting == 0)
    #expect(await self.queue.unkept != nil)
    self.disk.refuses.store(false, ordering: .relaxed)
    await self.queue.keep()
    #expect(await self.queue.unkept == nil)
    #expect(try await self.queue.enqueue(Messages.order("a", seeds: [1])) == 1)
    #expect(try await WorkQueue(folder: self.folder.path).waiting == 1)
  }
}
