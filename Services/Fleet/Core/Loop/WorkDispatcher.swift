import GRPCCore
package import Schemas
import ServiceKit

/// One trial that somebody has to do.
package struct WorkUnit: Sendable, Hashable {
  package var task: String
  package var mode: ControlMode
  package var seed: UInt64
  package var options: [String: String]

  package init(task: String, mode: ControlMode, seed: UInt64, options: [String: String] = [:]) {
    self.task = task
    self.mode = mode
    self.seed = seed
    self.options = options
  }
}

/// Which unit is with whom: gives work to robots, takes it back from those that drop out. A value, without I/O.
package struct WorkBook: Sendable {
  /// Orders that a robot may hold at once: the next is there when one ends.
  static let ordersPerRobot = 2
  /// Robots that may try a unit before it is given up.
  static let maximumAttempts = 3

  package struct Assignment: Sendable, Equatable {
    package var orderID: String
    package var unit: WorkUnit
    package var robot: String
  }

  private var waiting: [(unit: WorkUnit, attempts: Int)]
  private var open: [String: (assignment: Assignment, attempts: Int)] = [:]
  private let prefix: String
  private var count = 0
  package private(set) var finished: [String: TrialSummary] = [:]
  package private(set) var givenUp: [WorkUnit] = []
  package let total: Int

  package init(_ units: [WorkUnit], prefix: String) {
    self.waiting = units.map { ($0, 0) }
    self.total = units.count
    self.prefix = prefix
  }

  package var isDone: Bool { self.waiting.isEmpty && self.open.isEmpty }
  package var openOrders: [String] { self.open.keys.sorted() }
  package var robotsWithOrders: Set<String> { Set(self.open.values.map(\.assignment.robot)) }

  /// Orders to send now, given who can work.
  package mutating func assign(to robots: [String]) -> [Assignment] {
    var assignments: [Assignment] = []
    for _ in 0..<Self.ordersPerRobot {
      for robot in robots where !self.waiting.isEmpty {
        guard self.open.values.count(where: { $0.assignment.robot == robot }) < Self.ordersPerRobot else {
          continue
        }
        let (unit, attempts) = self.waiting.removeFirst()
        self.count += 1
        let assignment = Assignment(orderID: "\(self.prefix)-\(self.count)", unit: unit, robot: robot)
        self.open[assignment.orderID] = (assignment, attempts + 1)
        assignments.append(assignment)
      }
    }
    return assignments
  }

  /// Notes a stored trial; an aborted one is tried again.
  package mutating func note(_ trial: TrialSummary) {
    let order = trial.header?.orderID ?? ""
    guard let entry = self.open.removeValue(forKey: order) else { return }
    if trial.end?.outcome == .aborted {
      self.requeue(entry)
    } else {
      self.finished[order] = trial
    }
  }

  /// Takes an order back: its robot refused it or dropped out.
  package mutating func takeBack(orderID: String) {
    guard let entry = self.open.removeValue(forKey: orderID) else { return }
    self.requeue(entry)
  }

  /// Takes back everything from a robot.
  package mutating func takeBack(robot: String) {
    for (order, entry) in self.open where entry.assignment.robot == robot { self.takeBack(orderID: order) }
  }

  /// Gives up what nobody has begun.
  package mutating func dropWaiting() { self.waiting = [] }

  private mutating func requeue(_ entry: (assignment: Assignment, attempts: Int)) {
    if entry.attempts < Self.maximumAttempts {
      self.waiting.append((entry.assignment.unit, entry.attempts))
    } else {
      self.givenUp.append(entry.assignment.unit)
    }
  }
}

/// Drives a ``WorkBook``: orders out to robots, stored trials in from ingest.
package struct WorkDispatcher: Sendable {
  let clients: FleetClients
  let maximumSteps: UInt32
  let progress: ProgressReport

  /// Has units done by robots and waits until ingest stored each trial.
  /// - Parameters:
  ///   - limit: time without any newly stored trial after which it gives up.
  ///   - enough: asked after every round; true ends the work early: waiting units are dropped, begun ones awaited.
  /// - Returns: the stored trials.
  /// - Throws: ``FleetError`` `.timedOut` when nothing moves for `limit`.
  package func run(
    _ label: String, units: [WorkUnit], robots: [String], limit: Duration = .seconds(120),
    enough: (@Sendable () async throws -> Bool)? = nil
  ) async throws -> [TrialSummary] {
    var book = WorkBook(units, prefix: "\(label)-\(UInt32.random(in: 0...UInt32.max))")
    var moved = ContinuousClock.now
    while !book.isDone {
      let healthy = try await self.workers(among: robots)
      for robot in book.robotsWithOrders.subtracting(healthy) { book.takeBack(robot: robot) }
      for assignment in book.assign(to: healthy) {
        do {
          try await self.send(assignment)
        } catch let error as RPCError where error.code == .failedPrecondition || error.code == .unavailable {
          book.takeBack(orderID: assignment.orderID)
        }
      }
      let before = book.finished.count
      for trial in try await self.stored(book.openOrders) { book.note(trial) }
      if book.finished.count > before { moved = .now }
      self.progress.update(
        label, done: Double(book.finished.count), total: Double(book.total),
        detail: "\(book.finished.count)/\(book.total) trials")
      if try await enough?() ?? false { book.dropWaiting() }
      guard ContinuousClock.now - moved < limit else {
        throw FleetError(
          .timedOut,
          "\(label): no trial was stored for \(limit); \(book.openOrders.count) orders are open on "
            + "\(book.robotsWithOrders.sorted().joined(separator: ", ")). See logs of these robots and of ingest."
        )
      }
      if !book.isDone { try await Task.sleep(for: .milliseconds(300)) }
    }
    self.progress.line("  \(label): \(book.finished.count) trials stored")
    return Array(book.finished.values)
  }

  private func workers(among robots: [String]) async throws -> [String] {
    let rows = try await self.clients.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
    let able = Set(rows.filter { $0.state == .idle || $0.state == .working }.map(\.robot))
    return robots.filter(able.contains)
  }

  private func send(_ assignment: WorkBook.Assignment) async throws {
    guard let robot = self.clients.robots[assignment.robot] else {
      throw FleetError(.usage, "No robot is called \(assignment.robot).")
    }
    let order = WorkOrder(
      orderID: assignment.orderID, task: assignment.unit.task, mode: assignment.unit.mode,
      seeds: [assignment.unit.seed], maxSteps: self.maximumSteps, options: assignment.unit.options)
    _ = try await robot.enqueue(order, options: .within(.seconds(10)))
  }

  private func stored(_ orders: [String]) async throws -> [TrialSummary] {
    guard !orders.isEmpty else { return [] }
    let query = TrialQuery(includeQuarantined: true, orderIDs: orders)
    let page = try await self.clients.ingest.listTrials(
      ListTrialsRequest(query: query, pageSize: 1000), options: .within(.seconds(10)))
    return page.trials
  }
}
