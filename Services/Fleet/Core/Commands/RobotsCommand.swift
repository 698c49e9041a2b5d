package import ArgumentParser
import Schemas
import ServiceKit
import Statistics

/// `fleet robots`.
package struct Robots: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List robots, stop one, or let one back to work.",
    subcommands: [List.self, Work.self, Stop.self, Resume.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every robot that the monitor knows.")
    @OptionGroup var options: FleetOptions

    struct Row: Encodable {
      var robot, state, model, reason: String
      var successes, trials: UInt64
      var consecutiveFailures: UInt32
      var spooled: UInt32
      var lastSeenUnixNanos: Int64
    }

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
      }
      .map { row in
        Row(
          robot: row.robot, state: "\(row.state)", model: row.heartbeat?.modelVersion ?? "",
          reason: row.reason,
          successes: row.successes, trials: row.trials, consecutiveFailures: row.consecutiveFailures,
          spooled: row.heartbeat?.spooledTrials ?? 0, lastSeenUnixNanos: row.lastSeenUnixNanos)
      }
      Listing(
        columns: [
          "robot", "state", "model", "success", "failures in a row", "spooled", "last seen", "reason",
        ],
        rows: rows.map {
          [
            $0.robot, $0.state, $0.model.isEmpty ? "–" : $0.model, "\($0.successes)/\($0.trials)",
            "\($0.consecutiveFailures)", "\($0.spooled)", TimeText.ago($0.lastSeenUnixNanos), $0.reason,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Work: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Have healthy robots do trials of a task, and wait until all are stored.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "The task, e.g. drawer-open-v3.") var task: String
    @Option(help: "Number of trials, 1 to 100000.") var trials: Int = 10
    @Option(help: "Who acts: demonstration, policy or labelled-policy.") var mode: String = "demonstration"
    @Option(help: "Seed of the first trial's layout; each next one is one higher.") var firstSeed: UInt64 = 1
    @Option(help: "Steps after which a trial has failed.") var maximumSteps: UInt32 = 150

    private static let modes: [String: ControlMode] = [
      "demonstration": .demonstration, "policy": .policy, "labelled-policy": .labelledPolicy,
    ]

    func validate() throws {
      guard (1...100_000).contains(self.trials) else {
        throw ValidationError("--trials must be 1 to 100000.")
      }
      guard Self.modes[self.mode] != nil else {
        throw ValidationError("--mode must be demonstration, policy or labelled-policy.")
      }
    }

    func run() async throws {
      let units = (0..<UInt64(self.trials)).map {
        WorkUnit(task: self.task, mode: Self.modes[self.mode] ?? .demonstration, seed: self.firstSeed + $0)
      }
      let maximumSteps = self.maximumSteps
      let trials = try await self.options.withClients { clients in
        try await WorkDispatcher(clients: clients, maximumSteps: maximumSteps, progress: ProgressReport())
          .run("work", units: units, robots: clients.robots.keys.sorted())
      }
      let done = Proportion(
        successes: trials.count { $0.end?.outcome == .success },
        trials: trials.count { $0.end?.outcome == .success || $0.end?.outcome == .failure })
      print("\(done.successes) of \(done.trials) trials succeeded")
    }
  }

  struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Safety stop: the robot holds still until it is resumed.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Name of the robot.") var robot: String
    @Option(help: "Why.") var reason: String = "operator"

    func run() async throws {
      let (robot, reason) = (self.robot, self.reason)
      try await self.options.withClients { clients in
        guard let agent = clients.robots[robot] else {
          throw FleetError(.usage, "No robot of this fleet is called \(robot). See: fleet robots")
        }
        _ = try await agent.stop(StopRequest(reason: reason), options: .within(.seconds(10)))
      }
      print("\(robot) is stopped")
    }
  }

  struct Resume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let a robot back to work after a failure or a stop.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Name of the robot.") var robot: String
    @Option(help: "Who says so.") var by: String = "operator"

    func run() async throws {
      let (robot, by) = (self.robot, self.by)
      try await self.options.withClients { clients in
        if let agent = clients.robots[robot] {
          _ = try await agent.resume(.init(), options: .within(.seconds(10)))
        }
        _ = try await clients.monitor.resumeRobot(
          ResumeRobotRequest(robot: robot, by: by), options: .within(.seconds(10)))
      }
      print("\(robot) is back to work")
    }
  }
}
