package import Schemas

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
  /// Trials of a unit that may be aborted before it is given up. An order that was taken back was no attempt.
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
  /// Trials that ended as aborted, each of them tried again or given up.
  package private(set) var aborted = 0
  /// Orders taken back that their robots may still have: they are cancelled there, so that nobody does them unasked.
  package private(set) var withdrawn: [String: String] = [:]
  package let total: Int

  package init(_ units: [WorkUnit], prefix: String) {
    self.waiting = units.map { ($0, 0) }
    self.total = units.count
    self.prefix = prefix
  }

  package var isDone: Bool { self.waiting.isEmpty && self.open.isEmpty }
  package var openOrders: [String] { self.open.keys.sorted() }
  package var waitingUnits: Int { self.waiting.count }
  /// How many orders each robot has.
  package var ordersByRobot: [String: Int] {
    self.open.values.reduce(into: [:]) { $0[$1.assignment.robot, default: 0] += 1 }
  }
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
        self.open[assignment.orderID] = (assignment, attempts)
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
      self.aborted += 1
      if entry.attempts + 1 < Self.maximumAttempts {
        self.waiting.append((entry.assignment.unit, entry.attempts + 1))
      } else {
        self.givenUp.append(entry.assignment.unit)
      }
    } else {
      self.finished[order] = trial
    }
  }

  /// Takes an order back: its robot refused it or dropped out.
  package mutating func takeBack(orderID: String) {
    guard let entry = self.open.removeValue(forKey: orderID) else { return }
    self.withdrawn[orderID] = entry.assignment.robot
    self.waiting.append((entry.assignment.unit, entry.attempts))
  }

  /// The robot of an order that was taken back has it no more.
  package mutating func noteCancelled(orderID: String) { self.withdrawn[orderID] = nil }

  /// Takes back everything from a robot.
  package mutating func takeBack(robot: String) {
    for (order, entry) in self.open where entry.assignment.robot == robot { self.takeBack(orderID: order) }
  }

  /// Gives up what nobody has begun.
  package mutating func dropWaiting() { self.waiting = [] }
}
