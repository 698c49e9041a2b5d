import Schemas

extension WorkQueue {
  /// Bounds on what callers may ask for.
  package enum Limits {
    package static let waitingTrials = 100_000
    package static let openOrders = 1_000
    /// Bytes of the orders that are kept, as they lie on the disk: each change writes them all.
    package static let keptBytes = 4 << 20
    package static let steps: UInt32 = 100_000
    package static let options = 64
    package static let textBytes = 256
    /// Orders that are done are remembered, so that a repeated order is not done again.
    package static let rememberedOrders = 1_000
    /// Times that a trial is handed out to programs that never start it.
    package static let attempts = 3
  }

  /// Whether an order may wait besides others.
  /// - Parameters:
  ///   - open: orders whose trials are not all filed, this one included.
  ///   - waiting: their trials.
  ///   - bytes: of all orders that are kept then.
  /// - Throws: ``RobotError`` `.tooMuchWork`.
  static func checkRoom(open: Int, waiting: Int, bytes: Int) throws(RobotError) {
    func demand(_ count: Int, atMost limit: Int, _ what: String) throws(RobotError) {
      guard count > limit else { return }
      throw RobotError(
        .tooMuchWork,
        "\(count) \(what); at most \(limit) may. Send the order once others are done, or cancel some of them."
      )
    }
    try demand(waiting, atMost: Limits.waitingTrials, "trials would wait")
    try demand(open, atMost: Limits.openOrders, "orders would be open")
    try demand(bytes, atMost: Limits.keptBytes, "bytes of orders would be kept")
  }

  /// - Throws: ``RobotError`` `.invalidRequest`.
  static func check(_ order: WorkOrder) throws(RobotError) {
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
