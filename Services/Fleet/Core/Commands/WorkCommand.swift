package import ArgumentParser
import Schemas
import ServiceKit

/// `fleet work`: what robots have still to do.
package struct Work: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "work",
    abstract: "List, follow or end the work that robots have; `fleet robots work` gives it.",
    subcommands: [List.self, Watch.self, Cancel.self], defaultSubcommand: List.self)
  package init() {}

  /// An order that a robot has.
  struct Line: Encodable, Sendable {
    var robot, work, order, task, mode, state: String
    var trials: UInt32

    init(_ robot: String, _ order: OpenOrder) {
      self.robot = robot
      self.work = WorkID.work(of: order.orderID)
      self.order = order.orderID
      self.task = order.task
      self.mode = "\(order.mode)"
      self.state = order.running ? "running" : order.held ? "held" : "waiting"
      self.trials = order.trials
    }
  }

  /// What robots have, and those that did not answer.
  static func open(
    _ clients: FleetClients, robots: [String]
  ) async -> (lines: [Line], silent: [FleetClients.RobotAnswer<ListWorkResponse>]) {
    let answers = await clients.ask(robots: robots) {
      try await $0.listWork(.init(), options: .within(.seconds(5)))
    }
    let lines = answers.flatMap { answer in (answer.answer?.orders ?? []).map { Line(answer.robot, $0) } }
    return (lines, answers.filter { $0.answer == nil })
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Orders that robots have not done yet.")
    @OptionGroup var options: FleetOptions
    @Option(help: "Only this robot; repeat for more.") var robot: [String] = []

    func run() async throws {
      let robot = self.robot
      let (lines, silent) = try await self.options.withClients { clients in
        await Work.open(clients, robots: robot.isEmpty ? clients.robotNames : robot)
      }
      try Listing(
        columns: ["work", "order", "robot", "task", "mode", "state", "trials"],
        rows: lines.map { [$0.work, $0.order, $0.robot, $0.task, $0.mode, $0.state, "\($0.trials)"] }
      ).show(json: self.options.json ? lines : nil)
      for answer in silent { ProgressReport().line("\(answer.robot) \(answer.failure ?? "")") }
    }
  }

  struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Follow work until no robot has any of it left.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the work, or of an order.") var work: String

    func run() async throws {
      let (work, options) = (self.work, self.options)
      try await options.withClients { clients in
        let counts = try await Following.run {
          CommandHint.text(
            "\(work) goes on.", [.init("End it", "fleet work cancel \(work)")], again: options.again)
        } _: {
          try await Self.follow(work, clients, again: options.again)
        }
        try Listing.show(
          "\(work) is done: \(counts["stored"] ?? 0) trials of what robots still had were stored, "
            + "\(counts["succeeded"] ?? 0) succeeded", json: options.json ? counts : nil)
      }
    }

    private static func follow(
      _ work: String, _ clients: FleetClients, again: String
    ) async throws -> [String: Int] {
      let progress = ProgressReport()
      let patience = Patience(progress: progress)
      let robots = clients.robots.names
      var watch = WorkWatch(work)
      while true {
        let (lines, silent) = await Work.open(clients, robots: robots)
        try Task.checkCancellation()
        let news = watch.note(lines, silent: silent.map(\.robot))
        for robot in news.silent { progress.line("waiting for \(robot) …") }
        for robot in news.answering { progress.line("\(robot) answers again") }
        for robot in news.holding {
          progress.line(
            CommandHint.text(
              "\(robot) holds trials back.", [.init("Do them", "fleet robots resume \(robot) --continue")],
              again: again))
        }
        if watch.total > 0 {
          progress.update(
            work, done: Double(watch.total - watch.left), total: Double(watch.total),
            detail: "\(watch.left) trials left")
        }
        if try watch.isOver(again: again) { break }
        try await Task.sleep(for: .milliseconds(500))
      }
      let request = SummarizeOutcomesRequest(
        query: TrialQuery(includeQuarantined: true, orderIDs: watch.orders.sorted()))
      let counts = try await patience.ask("ingest") {
        try await clients.ingest.summarizeOutcomes(request, options: .within(.seconds(30))).counts
      }
      return [
        "stored": counts.reduce(0) { $0 + Int(clamping: $1.trials) + Int(clamping: $1.aborted) },
        "succeeded": counts.reduce(0) { $0 + Int(clamping: $1.successes) },
      ]
    }
  }

  struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Drop work that waits on robots; a running trial ends by itself, or by `fleet robots stop`.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the work, or of an order.") var work: String?
    @Flag(help: "All work.") var all = false
    @Option(help: "Only on this robot; repeat for more.") var robot: [String] = []

    struct Row: Encodable, Sendable {
      var robot: String
      var dropped, running: UInt32
      var error: String?
    }

    func validate() throws {
      guard (self.work == nil) == self.all else {
        throw ValidationError("Name the work, or say --all. `fleet work list` shows it.")
      }
    }

    func run() async throws {
      let (work, named) = (self.work, self.robot)
      let answers = try await self.options.withClients { clients in
        try await Self.cancel(work, on: named, clients)
      }
      let rows = answers.answers.map { answer in
        let counts = answer.answer ?? (dropped: 0, running: 0)
        return Row(
          robot: answer.robot, dropped: counts.dropped, running: counts.running, error: answer.failure)
      }
      let words = rows.compactMap { row -> String? in
        if let error = row.error { return "\(row.robot) \(error)" }
        guard row.dropped + row.running > 0 else { return nil }
        let running = row.running > 0 ? "; one is running and ends by itself" : ""
        return "\(row.robot): \(row.dropped) trials are dropped\(running)"
      }
      let nothing = work.map { "No robot has work '\($0)'." } ?? "No robot has any work."
      try Listing.show(
        words.isEmpty ? nothing : words.joined(separator: "\n"), json: self.options.json ? rows : nil)
      if let doubt = answers.doubt { ProgressReport().line(doubt) }
      let found = rows.contains { $0.dropped + $0.running > 0 }
      if answers.doubt != nil || rows.contains(where: { $0.error != nil }) || (work != nil && !found) {
        throw ExitCode.failure
      }
    }

    typealias Counts = (dropped: UInt32, running: UInt32)

    /// Drops work on robots.
    /// - Parameters:
    ///   - work: id of it, or of an order; nil for all work.
    ///   - named: robots; empty for every robot that can have it.
    /// - Throws: ``FleetError`` `.refused` where all work is meant and there is no robot.
    static func cancel(
      _ work: String?, on named: [String], _ clients: FleetClients
    ) async throws -> RobotSelection.Answers<FleetClients.RobotAnswer<Counts>> {
      // One work was given out to robots that can be called.
      let robots: RobotSelection =
        !named.isEmpty ? .named(named) : work == nil ? .all : .named(clients.robotNames)
      return try await robots.each(clients) { names in
        await clients.ask(robots: names) { try await Self.cancel(work, $0) }
      }
    }

    private static func cancel(_ work: String?, _ robot: FleetClients.Robot) async throws -> Counts {
      let before = try await robot.getStatus(.init(), options: .within(.seconds(5)))
      let listed = try await robot.listWork(.init(), options: .within(.seconds(5)))
      let mine = listed.orders.filter { order in work.map { WorkID.isPart(order.orderID, of: $0) } ?? true }
      // By its id, not one listed order after the other: a robot lists its first 1,000 orders only.
      let after = try await robot.cancelWork(
        CancelWorkRequest(orderID: work ?? ""), options: .within(.seconds(5)))
      let running = UInt32(mine.count(where: \.running))
      let dropped = mine.reduce(0) { $0 + $1.trials } - running
      guard Int(listed.total) > listed.orders.count else { return (dropped, running) }
      return (max(dropped, before.waiting - min(before.waiting, after.waiting)), running)
    }
  }
}

/// Ids of work: `fleet robots work` names what it gives out "work-5f3a01c2", and each order of it "work-5f3a01c2-17".
enum WorkID {
  static func new(_ label: String) -> String {
    let name = label.map { $0.isLetter || $0.isNumber ? $0 : "-" }
    return "\(String(name))-\(String(UInt32.random(in: 0x1000_0000 ... .max), radix: 16))"
  }

  /// The work that an order belongs to; an order of somebody else's is its own.
  static func work(of order: String) -> String {
    guard let dash = order.lastIndex(of: "-"), dash > order.startIndex,
      !order[order.index(after: dash)...].isEmpty, order[order.index(after: dash)...].allSatisfy(\.isNumber)
    else { return order }
    return String(order[..<dash])
  }

  static func isPart(_ order: String, of work: String) -> Bool {
    order == work || Self.work(of: order) == work
  }
}
