import ArgumentParser
import Schemas
import ServiceKit
import Statistics

extension Robots {
  struct GiveWork: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "work",
      abstract: "Have healthy robots do trials of a task, and wait until all are stored.",
      discussion: """
        Ctrl-C ends the waiting; it says what robots go on with and how to end that. With --when-resumed the trials are \
        given out at once, to robots that stand still, too, which do them once they are resumed.
        """)
    @OptionGroup var options: FleetOptions
    @Argument(help: "The task, e.g. drawer-open-v3.") var task: String
    @Option(help: "Number of trials, 1 to 100000.") var trials: Int = 10
    @Option(help: "Who acts: demonstration, policy or labelled-policy.") var mode: String = "demonstration"
    @Option(help: "Seed of the first trial's layout; each next one is one higher.") var firstSeed: UInt64 = 1
    @Option(help: "Steps after which a trial has failed.") var maximumSteps: UInt32 = 150
    @Option(help: "Only this robot; repeat for more.") var robot: [String] = []
    @Flag(help: "Leave the trials with the robots at once, those that stand still included, and do not wait.")
    var whenResumed = false

    private static let modes: [String: ControlMode] = [
      "demonstration": .demonstration, "policy": .policy, "labelled-policy": .labelledPolicy,
    ]

    struct Done: Encodable {
      var work: String
      var asked, stored, succeeded, failed, aborted, givenUp: Int
    }

    func validate() throws {
      guard (1...100_000).contains(self.trials) else {
        throw ValidationError("--trials must be 1 to 100000.")
      }
      guard Self.modes[self.mode] != nil else {
        throw ValidationError("--mode must be demonstration, policy or labelled-policy.")
      }
      guard self.firstSeed <= .max - UInt64(self.trials) else {
        throw ValidationError("--first-seed is too large for so many trials.")
      }
    }

    func run() async throws {
      let mode = Self.modes[self.mode] ?? .demonstration
      let units = (0..<UInt64(self.trials)).map {
        WorkUnit(task: self.task, mode: mode, seed: self.firstSeed + $0)
      }
      let (task, named, maximumSteps) = (self.task, self.robot, self.maximumSteps)
      let (options, whenResumed) = (self.options, self.whenResumed)
      try await options.withClients { clients in
        let robots = try await Self.robots(clients, named: named, task: task, standingStill: whenResumed)
        let dispatcher = WorkDispatcher(
          clients: clients, maximumSteps: maximumSteps, progress: ProgressReport(), again: options.again)
        let work = WorkID.new("work")
        if whenResumed {
          try await dispatcher.leave(units, with: robots, work: work)
          return try Listing.show(
            CommandHint.text(
              "\(work): \(units.count) trials are with \(robots.joined(separator: ", ")).",
              WorkNotes.hints(work), again: options.again),
            json: options.json ? ["work": work] : nil)
        }
        let notes = WorkNotes()
        let trials = try await Following.run {
          notes.whatGoesOn(work, again: options.again)
        } _: {
          try await dispatcher.run("work", units: units, robots: robots, work: work, notes: notes)
        }
        try Self.show(trials, of: work, asked: units.count, notes: notes, json: options.json)
      }
    }

    /// Robots that may be given the task.
    /// - Throws: ``FleetError`` `.refused` where no robot offers it, with what they offer.
    private static func robots(
      _ clients: FleetClients, named: [String], task: String, standingStill: Bool
    ) async throws -> [String] {
      let names = named.isEmpty ? clients.robots.names : named
      let answers = await clients.ask(robots: names) {
        try await $0.getStatus(.init(), options: .within(.seconds(3)))
      }
      let answering = answers.filter { $0.answer != nil }
      guard !answering.isEmpty else {
        let why = answers.map { "\($0.robot) \($0.failure ?? "")" }.joined(separator: "; ")
        throw FleetError(
          .refused, "No robot can be given work: \(why.isEmpty ? "this fleet has none" : why).")
      }
      for name in named {
        if let failure = answers.first(where: { $0.robot == name })?.failure {
          throw FleetError(.refused, "\(name) \(failure).")
        }
      }
      let able = TaskOffers(answering.map { ($0.robot, $0.answer?.tasks ?? []) })
      let robots = try able.robots(for: task)
      guard !standingStill else { return robots }
      let states = Dictionary(
        uniqueKeysWithValues: answering.map { ($0.robot, $0.answer?.heartbeat?.state ?? .unspecified) })
      guard robots.contains(where: { states[$0] == .idle || states[$0] == .working }) else {
        let why = robots.map { "\($0) is \(states[$0] ?? .unspecified)" }.joined(separator: ", ")
        throw FleetError(
          .refused,
          "No robot may work: \(why). Resume one first, or leave the work for afterwards with --when-resumed."
        )
      }
      return robots
    }

    private static func show(
      _ trials: [TrialSummary], of work: String, asked: Int, notes: WorkNotes, json: Bool
    ) throws {
      let done = Done(
        work: work, asked: asked, stored: trials.count,
        succeeded: trials.count { $0.end?.outcome == .success },
        failed: trials.count { $0.end?.outcome == .failure }, aborted: notes.aborted,
        givenUp: notes.givenUp)
      let rest =
        (done.aborted > 0 ? "; \(done.aborted) were aborted and tried again" : "")
        + (done.givenUp > 0 ? "; \(done.givenUp) were given up: see the logs of the robots" : "")
      try Listing.show(
        "\(done.succeeded) of \(done.succeeded + done.failed) trials succeeded\(rest)",
        json: json ? done : nil)
      if done.givenUp > 0 { throw ExitCode.failure }
    }
  }
}

/// Which robot offers which tasks. A value.
struct TaskOffers: Sendable {
  private let offers: [(robot: String, tasks: [String])]

  /// - Parameter offers: a robot without tasks never said what it can do, and may be given any.
  init(_ offers: [(robot: String, tasks: [String])]) { self.offers = offers }

  /// Robots that can be given a task.
  /// - Throws: ``FleetError`` `.refused` with the tasks that there are, where no robot offers it.
  func robots(for task: String) throws(FleetError) -> [String] {
    let able = self.offers.filter { $0.tasks.isEmpty || $0.tasks.contains(task) }
    guard able.isEmpty else { return able.map(\.robot) }
    let all = Set(self.offers.flatMap(\.tasks)).sorted().joined(separator: ", ")
    throw FleetError(.refused, "No robot has a task '\(task)'. Robots offer: \(all).")
  }
}
