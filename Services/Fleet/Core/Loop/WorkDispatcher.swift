import GRPCCore
package import Schemas
import ServiceKit
import Synchronization

/// What a dispatcher is at, for whoever has to say what goes on after Ctrl-C, and what came of it.
package final class WorkNotes: Sendable {
  private let book = Mutex<WorkBook?>(nil)

  package init() {}

  func note(_ book: WorkBook) { self.book.withLock { $0 = book } }

  var aborted: Int { self.book.withLock { $0?.aborted ?? 0 } }
  var givenUp: Int { self.book.withLock { $0?.givenUp.count ?? 0 } }

  /// - Parameters:
  ///   - work: id by which the work is followed and ended.
  ///   - again: what names the fleet in a command.
  package func whatGoesOn(_ work: String, again: String) -> String {
    guard let book = self.book.withLock({ $0 }), !book.ordersByRobot.isEmpty else {
      return "No robot has any of this work."
    }
    let robots = book.ordersByRobot.sorted { $0.key < $1.key }.map { "\($0.value) on \($0.key)" }
    return CommandHint.text(
      "Robots go on with the trials that they have: \(robots.joined(separator: ", ")). "
        + "\(book.waitingUnits) that were not given out will not be done.",
      Self.hints(work), again: again)
  }

  /// The commands that end and follow work.
  static func hints(_ work: String) -> [CommandHint] {
    [.init("End them", "fleet work cancel \(work)"), .init("Follow them", "fleet work watch \(work)")]
  }
}

/// Drives a ``WorkBook``: orders out to robots, stored trials in from ingest.
package struct WorkDispatcher: Sendable {
  /// Orders of one robot that are left with it at once.
  static let seedsPerOrder = 1_000

  let clients: FleetClients
  let maximumSteps: UInt32
  let progress: ProgressReport
  /// What names the fleet in a command, as ``FleetOptions/again``.
  var again = ""

  /// Has units done by robots and waits until ingest stored each trial. A service that is away meanwhile is waited for.
  /// - Parameters:
  ///   - work: id of the work, which begins each order's; nil for one made of the label.
  ///   - limit: time without any newly stored trial after which it gives up.
  ///   - notes: told what the robots have.
  ///   - enough: asked after every round; true ends the work early: waiting units are dropped, begun ones awaited.
  /// - Returns: the stored trials.
  /// - Throws: ``FleetError`` `.timedOut` when nothing moves for `limit`, times not counted in which a service was away; `.refused` where a robot calls an order senseless.
  package func run(
    _ label: String, units: [WorkUnit], robots: [String], work: String? = nil,
    limit: Duration = .seconds(120), notes: WorkNotes = WorkNotes(),
    enough: (@Sendable () async throws -> Bool)? = nil
  ) async throws -> [TrialSummary] {
    try await withThrowingTaskGroup(of: Void.self) { calls in
      let work = work ?? WorkID.new(label)
      var book = WorkBook(units, prefix: work)
      var moved = ContinuousClock.now
      var silent = SilentRobots()
      let patience = Patience(progress: self.progress)
      // In the last round, and so far.
      var (refused, told): (Set<String>, Set<String>) = ([], [])
      let withdrawals = Withdrawals()
      while !book.isDone {
        let away = patience.away
        let states = try await self.states(patience)
        for robot in silent.lost(book.robotsWithOrders, states: states) { book.takeBack(robot: robot) }
        for order in withdrawals.takeDropped() { book.noteCancelled(orderID: order) }
        // Who has not answered yet that it dropped what was taken back gets no more.
        let mute = Set(book.withdrawn.values)
        let able = robots.filter { (states[$0] == .idle || states[$0] == .working) && !mute.contains($0) }
        // Who refused comes last, so that the last units are not with it round by round.
        let inOrder = able.filter { !refused.contains($0) } + able.filter(refused.contains)
        refused = []
        let assignments = book.assign(to: inOrder)
        // Before they are sent: whoever is interrupted meanwhile must know of them.
        notes.note(book)
        for refusal in try await self.send(assignments) {
          for order in refusal.orders { book.takeBack(orderID: order) }
          refused.insert(refusal.robot)
          if told.insert("\(refusal.robot) \(refusal.code)").inserted {
            self.progress.line("\(refusal.robot) takes no work: \(refusal.why)")
          }
        }
        self.cancel(book.withdrawn, withdrawals, in: &calls)
        let before = book.finished.count
        for trial in try await self.stored(book.openOrders, patience) { book.note(trial) }
        notes.note(book)
        self.progress.update(
          label, done: Double(book.finished.count), total: Double(book.total),
          detail: "\(book.finished.count)/\(book.total) trials")
        if try await patience.ask("the fleet", { try await enough?() ?? false }) { book.dropWaiting() }
        moved = book.finished.count > before ? .now : moved + (patience.away - away)
        guard ContinuousClock.now - moved < limit else {
          throw FleetError(
            .timedOut,
            "\(label): no trial was stored for \(limit): see the logs of the robots and of ingest. "
              + notes.whatGoesOn(work, again: self.again))
        }
        if !book.isDone { try await Task.sleep(for: .milliseconds(300)) }
      }
      // Once more where more was taken back while a robot was told of the first.
      for _ in 0..<2 {
        self.cancel(book.withdrawn, withdrawals, in: &calls)
        try await calls.waitForAll()
        for order in withdrawals.takeDropped() { book.noteCancelled(orderID: order) }
      }
      for robot in Set(book.withdrawn.values).sorted() {
        self.progress.line(
          CommandHint.text(
            "\(robot) did not answer and may still do trials that others did.",
            [.init("See", "fleet work list --robot \(robot)")], again: self.again))
      }
      self.progress.line("  \(label): \(book.finished.count) trials stored")
      return Array(book.finished.values)
    }
  }

  /// Gives all units out at once, in equal shares, to be done now or once a robot that stands still is resumed.
  /// - Throws: ``FleetError`` `.refused` naming the robots that did not take their share.
  func leave(_ units: [WorkUnit], with robots: [String], work: String) async throws {
    var orders: [String: [WorkOrder]] = [:]
    for (index, robot) in robots.enumerated() {
      let share = units.indices.filter { $0 % robots.count == index }.map { units[$0] }
      for (part, start) in stride(from: 0, to: share.count, by: Self.seedsPerOrder).enumerated() {
        let run = share[start..<min(start + Self.seedsPerOrder, share.count)]
        guard let unit = run.first else { continue }
        orders[robot, default: []].append(
          WorkOrder(
            orderID: "\(work)-\(part * robots.count + index + 1)", task: unit.task, mode: unit.mode,
            seeds: run.map(\.seed), maxSteps: self.maximumSteps, options: unit.options, whenResumed: true))
      }
    }
    let (given, shares) = (orders.keys.sorted(), orders)
    let answers = await withTaskGroup(of: [FleetClients.RobotAnswer<Void>].self) { group in
      for robot in given {
        group.addTask {
          await self.clients.ask(robots: [robot]) { agent in
            for order in shares[robot] ?? [] {
              _ = try await agent.enqueue(order, options: .within(.seconds(10)))
            }
          }
        }
      }
      return await group.reduce(into: []) { $0 += $1 }
    }
    let failed = answers.compactMap { answer in answer.failure.map { "\(answer.robot) \($0)" } }.sorted()
    guard failed.isEmpty else {
      throw FleetError(
        .refused,
        CommandHint.text(
          "Not all of \(work) was taken: \(failed.joined(separator: "; ")).",
          [.init("Drop the rest", "fleet work cancel \(work)")], again: self.again))
    }
  }

  private func states(_ patience: Patience) async throws -> [String: RobotState] {
    let rows = try await patience.ask("monitor") {
      try await self.clients.monitor.listRobots(.init(), options: .within(.seconds(5))).robots
    }
    return Dictionary(rows.map { ($0.robot, $0.state) }, uniquingKeysWith: { _, last in last })
  }

  /// Orders that a robot did not take.
  private struct Refusal {
    var robot: String
    var orders: [String]
    /// What tells this reason from others: its words may have numbers that change.
    var code: RPCError.Code
    var why: String
  }

  /// Sends all robots their orders at the same time: one that hangs holds up no other for longer than a call may take.
  private func send(_ assignments: [WorkBook.Assignment]) async throws -> [Refusal] {
    try await withThrowingTaskGroup(of: Refusal?.self) { group in
      for (robot, orders) in Dictionary(grouping: assignments, by: \.robot) {
        group.addTask {
          for (index, order) in orders.enumerated() {
            do { try await self.send(order) } catch let error as RPCError where error.isOfRobotAlone {
              return Refusal(
                robot: robot, orders: orders[index...].map(\.orderID),
                code: error.isAway ? .unavailable : error.code,
                why: error.isAway ? "it does not answer" : error.message)
            }
          }
          return nil
        }
      }
      var refusals: [Refusal] = []
      for try await refusal in group { if let refusal { refusals.append(refusal) } }
      return refusals
    }
  }

  private func send(_ assignment: WorkBook.Assignment) async throws {
    let order = WorkOrder(
      orderID: assignment.orderID, task: assignment.unit.task, mode: assignment.unit.mode,
      seeds: [assignment.unit.seed], maxSteps: self.maximumSteps, options: assignment.unit.options)
    _ = try await self.clients.robots.ask(assignment.robot) {
      try await $0.enqueue(order, options: .within(.seconds(5)))
    }
  }

  /// What robots are told to drop, while rounds go on.
  private final class Withdrawals: Sendable {
    private let state = Mutex((busy: Set<String>(), dropped: [String]()))

    /// - Returns: false while the robot is being told already.
    func begin(with robot: String) -> Bool { self.state.withLock { $0.busy.insert(robot).inserted } }

    func end(with robot: String, dropped: [String]) {
      self.state.withLock {
        $0.busy.remove(robot)
        $0.dropped += dropped
      }
    }

    /// Orders that robots dropped since the last time.
    func takeDropped() -> [String] {
      self.state.withLock { state in
        defer { state.dropped = [] }
        return state.dropped
      }
    }
  }

  /// Begins to tell robots to drop what was taken back from them. Nobody waits for one that hangs; it is told again.
  /// - Parameter withdrawn: the robot of each order.
  private func cancel(
    _ withdrawn: [String: String], _ withdrawals: Withdrawals,
    in calls: inout ThrowingTaskGroup<Void, any Error>
  ) {
    for (robot, orders) in Dictionary(grouping: withdrawn.keys, by: { withdrawn[$0] ?? "" })
    where withdrawals.begin(with: robot) {
      calls.addTask {
        let answer = await self.clients.ask(robots: [robot]) { agent in
          for order in orders {
            _ = try await agent.cancelWork(CancelWorkRequest(orderID: order), options: .within(.seconds(2)))
          }
        }
        withdrawals.end(with: robot, dropped: answer[0].failure == nil ? orders : [])
      }
    }
  }

  private func stored(_ orders: [String], _ patience: Patience) async throws -> [TrialSummary] {
    guard !orders.isEmpty else { return [] }
    let query = TrialQuery(includeQuarantined: true, orderIDs: orders)
    var (trials, token): ([TrialSummary], String) = ([], "")
    repeat {
      let request = ListTrialsRequest(query: query, pageSize: 1_000, pageToken: token)
      let page = try await patience.ask("ingest") {
        try await self.clients.ingest.listTrials(request, options: .within(.seconds(5)))
      }
      trials += page.trials
      token = page.nextPageToken
    } while !token.isEmpty
    return trials
  }
}

extension RPCError {
  /// It says of one robot that it cannot work now (away, standing still, no room on its disk), and nothing of the order.
  fileprivate var isOfRobotAlone: Bool {
    self.isAway || self.code == .failedPrecondition || self.code == .resourceExhausted
  }
}
