import Foundation
package import Schemas
import Storage
import Synchronization

/// The trials that this robot is to do, in the order in which they were asked for.
///
/// Orders are on disk before they are acknowledged, and a seed leaves its order only once its trial is filed: an agent
/// that is killed goes on where it was. A seed whose trial was filed a moment before the crash may be done twice, as two
/// trials with two ids.
package actor WorkQueue {
  /// Bounds on what callers may ask for.
  package enum Limits {
    package static let waitingTrials = 100_000
    package static let steps: UInt32 = 100_000
    package static let options = 64
    package static let textBytes = 256
    /// Orders that are done are remembered, so that a repeated order is not done again.
    package static let rememberedOrders = 1_000
    /// Times that a trial is handed out to programs that never start it.
    package static let attempts = 3
  }

  private struct Handed {
    var orderID: String
    var seed: UInt64
    var attempts: Int
    var running = false
  }

  private let executor = QueueExecutor(label: "fleetloop.robot.work")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let path: String
  /// Seeds of an order are those not filed yet.
  private var orders: [WorkOrder] = []
  private var handed: Handed?
  private nonisolated let changed = Wakeup()
  private nonisolated let drained = Atomic(false)

  /// Opens the queue in a folder, with the orders that an earlier agent left.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(folder: String) throws {
    try DiskFolder.make(folder)
    self.path = "\(folder)/orders"
    guard let data = FileManager.default.contents(atPath: self.path) else { return }
    self.orders = try Self.decode(data, path: self.path)
  }

  /// Trials not handed out yet.
  package var waiting: UInt32 {
    let seeds = self.orders.reduce(0) { $0 + $1.seeds.count }
    return UInt32(clamping: self.handed == nil ? seeds : seeds - 1)
  }

  /// Trials handed out and not filed yet: 0 or 1.
  package var running: UInt32 { self.handed == nil ? 0 : 1 }

  /// Takes an order; one that is known already changes nothing.
  /// - Returns: trials waiting.
  /// - Throws: ``RobotError`` `.invalidRequest`, `.tooMuchWork`, `.diskFailed`.
  package func enqueue(_ order: WorkOrder) throws(RobotError) -> UInt32 {
    try Self.check(order)
    guard !self.orders.contains(where: { $0.orderID == order.orderID }) else { return self.waiting }
    let total = Int(self.waiting) + order.seeds.count
    guard total <= Limits.waitingTrials else {
      throw RobotError(
        .tooMuchWork, "\(total) trials would wait; at most \(Limits.waitingTrials) may. Send the rest later.")
    }
    self.orders.append(order)
    do { try self.save() } catch {
      self.orders.removeLast()
      throw error
    }
    self.changed.notify()
    return self.waiting
  }

  /// The next trial, or nil where there is none within `timeout`. One that was handed out and not started is handed out again.
  package func next(within timeout: Duration, modelVersion: String) async -> WorkItem? {
    let deadline = ContinuousClock.now + timeout
    while !Task.isCancelled, !self.drained.load(ordering: .relaxed) {
      let seen = self.changed.changes
      if let item = self.take(modelVersion: modelVersion) { return item }
      let left = deadline - .now
      guard left > .zero else { return nil }
      await self.changed.wait(beyond: seen, atMost: left)
    }
    return nil
  }

  /// Lets those who wait look again, e.g. because the robot was resumed.
  package nonisolated func reconsider() { self.changed.notify() }

  /// Hands out nothing from now on. What waits stays on the disk for the next start.
  package nonisolated func drain() {
    self.drained.store(true, ordering: .relaxed)
    self.changed.notify()
  }

  /// The program began the trial that it was handed.
  /// - Throws: ``RobotError`` `.invalidRequest` for a trial that was not handed out. An empty order id is let pass: nobody asked
  ///   for that trial, and a control program may do trials of its own.
  package func started(orderID: String, seed: UInt64) throws(RobotError) {
    guard !orderID.isEmpty else { return }
    guard var handed, handed.orderID == orderID, handed.seed == seed else {
      throw RobotError(
        .invalidRequest,
        "Seed \(seed) of order '\(orderID)' was not handed out, or was cancelled. Ask for work with NextWork."
      )
    }
    handed.running = true
    self.handed = handed
  }

  /// The trial that began will not be filed, for no fault of its own: it is handed out again.
  package func returned(orderID: String, seed: UInt64) {
    guard self.handed?.orderID == orderID, self.handed?.seed == seed else { return }
    self.handed?.running = false
    self.handed?.attempts = 0
    self.changed.notify()
  }

  /// The trial is filed, or will never be.
  package func finished(orderID: String, seed: UInt64) throws(RobotError) {
    guard !orderID.isEmpty else { return }
    if self.handed?.orderID == orderID, self.handed?.seed == seed { self.handed = nil }
    guard let index = self.orders.firstIndex(where: { $0.orderID == orderID }),
      let place = self.orders[index].seeds.firstIndex(of: seed)
    else { return }
    self.orders[index].seeds.remove(at: place)
    self.changed.notify()
    try self.save()
  }

  /// Drops what waits: of one order, or of all. The running trial goes on.
  package func cancel(orderID: String = "") throws(RobotError) {
    for index in self.orders.indices where orderID.isEmpty || self.orders[index].orderID == orderID {
      let keep = self.handed.flatMap {
        $0.running && $0.orderID == self.orders[index].orderID ? $0.seed : nil
      }
      self.orders[index].seeds = keep.map { [$0] } ?? []
      if keep == nil, self.handed?.orderID == self.orders[index].orderID { self.handed = nil }
    }
    try self.save()
  }

  private func take(modelVersion: String) -> WorkItem? {
    if let handed {
      guard !handed.running else { return nil }
      // The program that took it never began: it crashed, or the answer was lost.
      guard handed.attempts < Limits.attempts else {
        try? self.finished(orderID: handed.orderID, seed: handed.seed)
        return self.take(modelVersion: modelVersion)
      }
      self.handed?.attempts += 1
    } else {
      guard let order = self.orders.first(where: { !$0.seeds.isEmpty }) else { return nil }
      self.handed = Handed(orderID: order.orderID, seed: order.seeds[0], attempts: 1)
    }
    guard let handed, let order = self.orders.first(where: { $0.orderID == handed.orderID }) else {
      return nil
    }
    return WorkItem(
      orderID: order.orderID, task: order.task, mode: order.mode, seed: handed.seed,
      maxSteps: order.maxSteps, options: order.options, modelVersion: modelVersion)
  }

  private func save() throws(RobotError) {
    let done = self.orders.filter(\.seeds.isEmpty)
    if done.count > Limits.rememberedOrders {
      let forgotten = Set(done.prefix(done.count - Limits.rememberedOrders).map(\.orderID))
      self.orders.removeAll { forgotten.contains($0.orderID) }
    }
    var data = Data()
    for order in self.orders {
      let bytes = order.serializedBytes()
      withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { data.append(contentsOf: $0) }
      data.append(contentsOf: bytes)
    }
    try DiskFolder.replace(self.path, with: data)
  }

  private static func decode(_ data: Data, path: String) throws -> [WorkOrder] {
    try data.withUnsafeBytes { bytes in
      var orders: [WorkOrder] = []
      var offset = 0
      while offset < bytes.count {
        let damaged = RobotError(
          .diskFailed, "\(path) is damaged at byte \(offset). Delete it to lose its orders.")
        guard bytes.count - offset >= 4 else { throw damaged }
        let length = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
        offset += 4
        guard length <= bytes.count - offset else { throw damaged }
        orders.append(
          try WorkOrder(serializedBytes: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length])))
        offset += length
      }
      return orders
    }
  }

  private static func check(_ order: WorkOrder) throws(RobotError) {
    func demand(_ condition: Bool, _ message: @autoclosure () -> String) throws(RobotError) {
      guard condition else { throw RobotError(.invalidRequest, message()) }
    }
    let texts = [order.orderID, order.task] + order.options.flatMap { [$0.key, $0.value] }
    try demand(!order.orderID.isEmpty && !order.task.isEmpty, "An order needs an order_id and a task.")
    try demand(
      texts.allSatisfy { $0.utf8.count <= Limits.textBytes } && order.options.count <= Limits.options,
      "An order's texts have at most \(Limits.textBytes) bytes, and it has at most \(Limits.options) options."
    )
    try demand(
      [.demonstration, .policy, .labelledPolicy].contains(order.mode),
      "An order's mode is demonstration, policy or labelled policy.")
    try demand(!order.seeds.isEmpty, "An order needs at least one seed: one trial each.")
    try demand(Set(order.seeds).count == order.seeds.count, "Order '\(order.orderID)' names a seed twice.")
    try demand(
      (1...Limits.steps).contains(order.maxSteps),
      "max_steps is \(order.maxSteps); it must be 1 to \(Limits.steps).")
  }
}
