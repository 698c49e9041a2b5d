/// How much a robot has to do, at one moment.
package struct WorkCounts: Sendable, Hashable {
  /// Trials not handed out yet.
  package var waiting: UInt32
  /// Of the waiting: trials that are not done before somebody says to go on with them.
  package var held: UInt32
  /// Trials handed out and not filed yet: 0 or 1.
  package var running: UInt32

  /// - Parameter standsStill: count as though the robot had to stand still now.
  init(_ orders: [KeptOrder], handed: WorkQueue.Handed?, standsStill: Bool) {
    var (seeds, held, isHeld) = (0, 0, false)
    for order in orders where !order.seeds.isEmpty {
      seeds += order.seeds.count
      guard order.isHeld || standsStill && order.state == .waiting else { continue }
      held += order.seeds.count
      if order.id == handed?.orderID { isHeld = true }
    }
    // What was handed out and not begun is taken back.
    let isOut = handed.map { $0.running || !isHeld } ?? false
    self.running = isOut ? 1 : 0
    self.waiting = UInt32(clamping: seeds - (isOut ? 1 : 0))
    self.held = UInt32(clamping: held - (isOut && isHeld ? 1 : 0))
  }
}

/// What a queue tells whoever cannot wait for it.
struct PublishedWork: Sendable {
  /// Those that ``now`` shows.
  var standstills: UInt64
  var now: WorkCounts
  /// What becomes of it where the robot is told to stand still once more.
  var held: WorkCounts
  /// Why the orders on the disk are not the orders here; nil where they are, or were not written yet.
  var unkept: String?

  init(_ orders: [KeptOrder], handed: WorkQueue.Handed?, standstills: UInt64, unkept: String?) {
    self.standstills = standstills
    self.now = WorkCounts(orders, handed: handed, standsStill: false)
    self.held = WorkCounts(orders, handed: handed, standsStill: true)
    self.unkept = unkept
  }
}
