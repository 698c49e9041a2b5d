package import Schemas
package import Storage
import Synchronization

/// The trials that this robot is to do, in the order in which they were asked for.
///
/// Orders are on disk before they are acknowledged, and a seed leaves its order only once its trial is filed: an agent
/// that is killed goes on where it was. A seed whose trial was filed a moment before the crash may be done twice, as two
/// trials with two ids.
///
/// A robot that is told to stand still does not wait for its queue: each call looks first whether it was told since the last
/// one, and holds what waited.
package actor WorkQueue {
  struct Handed {
    var orderID: String
    var seed: UInt64
    var attempts: Int
    var running = false
  }

  private let executor: any SerialExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  nonisolated static let fileName = "orders"

  private let path: String
  private let disk: any Disk
  private let runtime: Runtime
  private let standing: @Sendable () -> Standing
  /// Standstills after which ``orders`` were held.
  private var standstills: UInt64
  /// Those that were known when the queue was opened: what says how many there were counts on from here.
  nonisolated let firstStandstills: UInt64
  /// Seeds of an order are those not filed yet.
  private var orders: [KeptOrder]
  /// What ``orders`` have on the disk, or more until they are written next.
  private var bytes: Int
  private var handed: Handed?
  /// Changes of ``orders``, and how many of them are on the disk.
  private var (changes, written): (UInt64, UInt64)
  /// Why the disk refused them last; nil where it did not.
  private var refusal: String?
  private nonisolated let published: Mutex<PublishedWork>
  private nonisolated let changed: Wakeup
  private nonisolated let drained = Atomic(false)

  /// Opens the queue in a folder, with the orders that an earlier agent left. A file of orders that is damaged, or too
  /// large to be one, is set aside, and the robot goes on without them; see ``DamagedFiles``.
  /// - Parameter standing: what the robot was told; what waited before it had to stand still is held.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(
    folder: String, disk: any Disk = SystemDisk(), runtime: Runtime = .system,
    standing: @escaping @Sendable () -> Standing = { Standing() }
  ) throws(RobotError) {
    self.executor = runtime.makeSerialExecutor("fleetloop.robot.work")
    self.changed = Wakeup(runtime: runtime)
    self.disk = disk
    self.runtime = runtime
    self.standing = standing
    let path = "\(folder)/\(Self.fileName)"
    self.path = path
    try onDisk { () throws(StorageError) in try disk.makeFolder(folder) }
    let kept = try KeptOrders.read(path, on: disk, runtime: runtime)
    let (now, left) = (standing(), kept.orders)
    // The earlier agent may have ended between the word to stand still, or to work again, and its orders.
    let orders = kept.left(now)
    let standstills = max(kept.standstills, now.standstills)
    (self.standstills, self.firstStandstills) = (standstills, standstills)
    self.orders = orders
    self.bytes = orders.reduce(0) { $0 + $1.bytes }
    (self.changes, self.written) = (orders.map(\.state) == left.map(\.state) ? 0 : 1, 0)
    self.published = Mutex(
      PublishedWork(orders, handed: nil, standstills: standstills, unkept: nil))
  }

  /// How much there is to do. Waits for nobody, and shows a standstill at once.
  package nonisolated var counts: WorkCounts {
    let standstills = self.standing().standstills
    return self.published.withLock { standstills > $0.standstills ? $0.held : $0.now }
  }

  /// Why the orders on the disk are not the orders here; nil where they are, or will be soon.
  package nonisolated var unkept: String? { self.published.withLock { $0.unkept } }

  /// Begins each call: holds what waited when the robot was told to stand still since the last one. Orders that were given
  /// for afterwards stay as they are.
  private func look() -> Standing {
    let standing = self.standing()
    guard standing.standstills > self.standstills else { return standing }
    self.standstills = standing.standstills
    // An order for afterwards stays one; that it does is not known where the file is not of this standstill.
    if self.orders.contains(where: { $0.state == .afterwards && !$0.seeds.isEmpty }) { self.changes += 1 }
    self.become(self.orders.map(\.held))
    if let handed, !handed.running, self.isHeld(handed.orderID) { self.handed = nil }
    return standing
  }

  /// Ends each call.
  private func publish() {
    let now = PublishedWork(
      self.orders, handed: self.handed, standstills: self.standstills, unkept: self.refusal)
    self.published.withLock { $0 = now }
  }

  /// Orders whose trials are not all filed, in the order in which they are done, and how many there are in all.
  package func open(atMost limit: Int) -> (orders: [OpenOrder], total: Int) {
    _ = self.look()
    defer { self.publish() }
    let open = self.orders.filter { !$0.seeds.isEmpty }
    let listed = open.prefix(limit).map { kept in
      OpenOrder(
        orderID: kept.id, task: kept.order.task, mode: kept.order.mode,
        trials: UInt32(clamping: kept.seeds.count),
        running: self.handed?.running == true && self.handed?.orderID == kept.id, held: kept.isHeld)
    }
    return (listed, open.count)
  }

  /// Takes an order; one that is known already changes nothing.
  /// - Returns: trials waiting.
  /// - Throws: ``RobotError`` `.invalidRequest`, `.tooMuchWork`, `.diskFailed`; `.notReady` where the robot stands still and
  ///   the order is not meant for afterwards.
  package func enqueue(_ order: WorkOrder) async throws(RobotError) -> UInt32 {
    try Self.check(order)
    while self.orders.contains(where: { $0.id == order.orderID }) {
      guard self.written < self.changes else { return self.counts.waiting }
      // It may be on its way to the disk, which may refuse it.
      try await self.saveTogether()
    }
    try self.add(order)
    do { try await self.saveTogether() } catch {
      self.bytes -= self.orders.reduce(0) { $0 + ($1.id == order.orderID ? $1.bytes : 0) }
      self.orders.removeAll { $0.id == order.orderID }
      if self.handed?.orderID == order.orderID { self.handed = nil }
      self.publish()
      throw error
    }
    self.changed.notify()
    return self.counts.waiting
  }

  private func add(_ order: WorkOrder) throws(RobotError) {
    // Nothing is awaited between this look and the order's place: no stop comes between.
    let obstacle = self.look().obstacle
    defer { self.publish() }
    if let obstacle, !order.whenResumed {
      throw RobotError(
        .notReady, "\(obstacle) Work for afterwards is taken where the order says when_resumed.")
    }
    let kept = KeptOrder(order: order, state: obstacle == nil ? .waiting : .afterwards)
    let bytes = self.bytes + kept.bytes
    let waiting = WorkCounts(self.orders, handed: self.handed, standsStill: false).waiting
    try Self.checkRoom(
      open: self.orders.count { !$0.seeds.isEmpty } + 1, waiting: Int(waiting) + order.seeds.count,
      bytes: bytes)
    self.orders.append(kept)
    self.bytes = bytes
    self.changes += 1
  }

  /// The next trial, or nil where there is none within `timeout`. One that was handed out and not started is handed out again.
  package func next(within timeout: Duration, modelVersion: String) async -> WorkItem? {
    let deadline = self.runtime.now() + timeout
    while !Task.isCancelled, !self.drained.load(ordering: .relaxed) {
      let seen = self.changed.changes
      if let item = self.take(modelVersion: modelVersion) { return item }
      let left = deadline - self.runtime.now()
      guard left > .zero else { return nil }
      await self.changed.wait(beyond: seen, atMost: left)
    }
    return nil
  }

  /// The robot may work again, also where the disk refuses to keep that; see ``unkept``.
  /// - Parameters:
  ///   - continuing: do what is held, too.
  ///   - standstills: those that are over. Where the robot was told once more, or may not work, nothing changes.
  package func resume(continuing: Bool, after standstills: UInt64) {
    let standing = self.look()
    defer { self.publish() }
    guard standing.obstacle == nil, standing.standstills == standstills else { return }
    self.become(self.orders.map { continuing ? $0.freed : $0.released })
    self.changed.notify()
    try? self.save()
  }

  private func become(_ orders: [KeptOrder]) {
    if orders.map(\.state) != self.orders.map(\.state) { self.changes += 1 }
    self.orders = orders
  }

  /// Writes the orders if they have changed, what is held included. Where the disk refuses them, ``unkept`` says why, until a
  /// later call succeeds.
  package func keep() {
    _ = self.look()
    defer { self.publish() }
    // Told by `unkept`: what holds here does not wait for the disk.
    try? self.save()
  }

  private func isHeld(_ orderID: String?) -> Bool {
    self.orders.contains { $0.id == orderID && $0.isHeld }
  }

  /// Hands out nothing from now on. What waits stays on the disk for the next start.
  package nonisolated func drain() {
    self.drained.store(true, ordering: .relaxed)
    self.changed.notify()
  }

  /// The program began the trial that it was handed.
  /// - Throws: ``RobotError`` `.invalidRequest` for a trial that was not handed out. An empty order id is let pass: nobody asked
  ///   for that trial, and a control program may do trials of its own.
  package func started(orderID: String, seed: UInt64) throws(RobotError) {
    _ = self.look()
    defer { self.publish() }
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

  /// The robot itself let the trial not begin: that is no try of the program's.
  package func declined(orderID: String, seed: UInt64) {
    guard let handed, handed.orderID == orderID, handed.seed == seed, !handed.running else { return }
    self.handed?.attempts = max(0, handed.attempts - 1)
  }

  /// The trial that began will not be filed, for no fault of its own: it is handed out again.
  package func returned(orderID: String, seed: UInt64) {
    _ = self.look()
    defer { self.publish() }
    guard self.handed?.orderID == orderID, self.handed?.seed == seed else { return }
    if self.isHeld(orderID) {
      self.handed = nil
      return
    }
    self.handed?.running = false
    self.handed?.attempts = 0
    self.changed.notify()
  }

  /// The trial is filed, or will never be.
  package func finished(orderID: String, seed: UInt64) throws(RobotError) {
    _ = self.look()
    defer { self.publish() }
    guard !orderID.isEmpty else { return }
    if self.handed?.orderID == orderID, self.handed?.seed == seed { self.handed = nil }
    guard let index = self.orders.firstIndex(where: { $0.id == orderID }),
      let place = self.orders[index].seeds.firstIndex(of: seed)
    else { return }
    self.orders[index].seeds.remove(at: place)
    self.changes += 1
    self.changed.notify()
    try self.save()
  }

  /// Drops what waits: of one order and of those named after it, "ID-1", "ID-2" and so on, or of all. The running trial goes
  /// on.
  package func cancel(orderID: String = "") throws(RobotError) {
    _ = self.look()
    defer { self.publish() }
    for index in self.orders.indices where Self.isMeant(self.orders[index].id, by: orderID) {
      let keep = self.handed.flatMap {
        $0.running && $0.orderID == self.orders[index].id ? $0.seed : nil
      }
      let left = keep.map { [$0] } ?? []
      if self.orders[index].seeds != left { self.changes += 1 }
      self.orders[index].seeds = left
      if keep == nil, self.handed?.orderID == self.orders[index].id { self.handed = nil }
    }
    try self.save()
  }

  private static func isMeant(_ order: String, by id: String) -> Bool {
    guard !id.isEmpty, order != id else { return true }
    let number = order.hasPrefix("\(id)-") ? order.dropFirst(id.count + 1) : ""
    return !number.isEmpty && number.allSatisfy { ("0"..."9").contains($0) }
  }

  private func take(modelVersion: String) -> WorkItem? {
    _ = self.look()
    defer { self.publish() }
    if let handed {
      guard !handed.running else { return nil }
      // The program that took it never began: it crashed, or the answer was lost.
      guard handed.attempts < Limits.attempts else {
        self.hold(handed)
        return self.take(modelVersion: modelVersion)
      }
      self.handed?.attempts += 1
    } else {
      guard let next = self.orders.first(where: { !$0.seeds.isEmpty && $0.state == .waiting }) else {
        return nil
      }
      self.handed = Handed(orderID: next.id, seed: next.seeds[0], attempts: 1)
    }
    guard let handed, let order = self.orders.first(where: { $0.id == handed.orderID })?.order else {
      return nil
    }
    return WorkItem(
      orderID: order.orderID, task: order.task, mode: order.mode, seed: handed.seed,
      maxSteps: order.maxSteps, options: order.options, modelVersion: modelVersion)
  }

  /// Nobody begins its trials: others go first until somebody says to go on with what is held.
  private func hold(_ handed: Handed) {
    self.handed = nil
    self.become(self.orders.map { $0.id == handed.orderID ? $0.neverBegun : $0 })
    // Told by `unkept`; an agent that comes before it is kept hands it out and holds it once more.
    try? self.save()
  }

  /// Trials that were handed out so often and never begun, by this agent or one before it; their orders are held. Whoever has told
  /// of them says so with ``told(_:)``.
  package var neverBegun: [(orderID: String, seed: UInt64)] {
    self.orders.filter { $0.state == .neverBegun }.compactMap { kept in kept.seeds.first.map { (kept.id, $0) }
    }
  }

  /// Somebody was told that these orders' trials were never begun.
  package func told(_ orderIDs: Set<String>) {
    defer { self.publish() }
    self.become(self.orders.map { orderIDs.contains($0.id) ? $0.told : $0 })
    try? self.save()
  }

  /// Writes the orders, at once for all who wait for that: calls that came meanwhile go on first.
  private func saveTogether() async throws(RobotError) {
    guard self.written < self.changes else { return }
    await Task.yield()
    defer { self.publish() }
    try self.save()
  }

  private func save() throws(RobotError) {
    guard self.written < self.changes else { return }
    let done = self.orders.filter(\.seeds.isEmpty)
    if done.count > Limits.rememberedOrders {
      let forgotten = Set(done.prefix(done.count - Limits.rememberedOrders).map(\.id))
      self.orders.removeAll { forgotten.contains($0.id) }
    }
    let bytes = KeptOrders(standstills: self.standstills, orders: self.orders).encoded
    self.bytes = bytes.count
    do throws(RobotError) {
      try onDisk { () throws(StorageError) in try CheckedFile.write(bytes, to: self.path, on: self.disk) }
      self.written = self.changes
      self.refusal = nil
    } catch {
      self.refusal = error.message
      throw error
    }
  }
}
