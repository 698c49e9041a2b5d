package import ArgumentParser
import GRPCCore
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

/// `fleet trials`.
package struct Trials: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List stored trials, or count outcomes.", subcommands: [List.self, Summary.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Stored trials, oldest first.")
    @OptionGroup var options: FleetOptions
    @Option(help: "Only this robot.") var robot: String?
    @Option(help: "Only this task.") var task: String?
    @Option(help: "Only this model version.") var version: String?
    @Option(help: "At most so many, 1 to 1000.") var limit: UInt32 = 50

    struct Row: Encodable {
      var robot, trial, task, mode, model, outcome: String
      var steps: UInt32
      var quarantined: [String]
      var storedUnixNanos: Int64
    }

    func run() async throws {
      let query = TrialQuery(
        robots: self.robot.map { [$0] } ?? [], tasks: self.task.map { [$0] } ?? [],
        modelVersions: self.version.map { [$0] } ?? [], includeQuarantined: true)
      let limit = self.limit
      let rows = try await self.options.withClients {
        try await $0.ingest.listTrials(
          ListTrialsRequest(query: query, pageSize: limit), options: .within(.seconds(30))
        ).trials
      }
      .map { trial in
        let header = trial.header ?? TrialHeader()
        return Row(
          robot: header.robot, trial: header.trialID, task: header.task, mode: "\(header.mode)",
          model: header.modelVersion, outcome: "\(trial.end?.outcome ?? .unspecified)",
          steps: trial.end?.steps ?? 0, quarantined: trial.reasons, storedUnixNanos: trial.storedUnixNanos)
      }
      Listing(
        columns: ["robot", "trial", "task", "mode", "model", "outcome", "steps", "stored", "quarantined"],
        rows: rows.map {
          [
            $0.robot, $0.trial, $0.task, $0.mode, $0.model.isEmpty ? "–" : $0.model, $0.outcome,
            "\($0.steps)",
            TimeText.date($0.storedUnixNanos), $0.quarantined.joined(separator: ","),
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Summary: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Successes by task and model, with 95 % intervals.")
    @OptionGroup var options: FleetOptions

    struct Row: Encodable {
      var task, model, mode: String
      var successes, trials: UInt64
      var low, high: Double
    }

    func run() async throws {
      let counts = try await self.options.withClients {
        try await $0.ingest.summarizeOutcomes(.init(), options: .within(.seconds(30))).counts
      }
      let cells = Dictionary(grouping: counts) { [$0.task, $0.modelVersion, "\($0.mode)"] }
      let rows = cells.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { key, counts in
        let successes = counts.reduce(0) { $0 + $1.successes }
        let trials = counts.reduce(0) { $0 + $1.trials }
        let interval = Proportion(successes: Int(successes), trials: Int(trials)).wilsonInterval()
        return Row(
          task: key[0], model: key[1], mode: key[2], successes: successes, trials: trials,
          low: interval.lowerBound, high: interval.upperBound)
      }
      Listing(
        columns: ["task", "model", "mode", "success", "95 % interval"],
        rows: rows.map {
          [
            $0.task, $0.model.isEmpty ? "–" : $0.model, $0.mode, "\($0.successes)/\($0.trials)",
            "\(Int($0.low * 100)) … \(Int(($0.high * 100).rounded(.up))) %",
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }
}

/// `fleet alerts`.
package struct Alerts: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List alerts, or acknowledge one.", subcommands: [List.self, Acknowledge.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Open alerts, newest first.")
    @OptionGroup var options: FleetOptions
    @Flag(help: "Resolved ones too.") var all = false

    struct Row: Encodable {
      var id, name, severity, state, robot, summary, remedy: String
      var startedUnixNanos: Int64
    }

    func run() async throws {
      let all = self.all
      let rows = try await self.options.withClients {
        try await $0.monitor.listAlerts(
          ListAlertsRequest(includeResolved: all), options: .within(.seconds(10))
        ).alerts
      }
      .map {
        Row(
          id: $0.alertID, name: $0.name, severity: "\($0.severity)", state: "\($0.state)", robot: $0.robot,
          summary: $0.summary, remedy: $0.remedy, startedUnixNanos: $0.startedUnixNanos)
      }
      Listing(
        columns: ["alert", "name", "severity", "state", "robot", "since", "summary", "remedy"],
        rows: rows.map {
          [
            $0.id, $0.name, $0.severity, $0.state, $0.robot, TimeText.date($0.startedUnixNanos), $0.summary,
            $0.remedy,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Acknowledge: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "acknowledge", abstract: "Say that somebody takes care of an alert.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the alert.") var alert: String
    @Option(help: "Who takes care.") var by: String = "operator"

    func run() async throws {
      let request = AcknowledgeAlertRequest(alertID: self.alert, by: self.by)
      let alert = try await self.options.withClients {
        try await $0.monitor.acknowledgeAlert(request, options: .within(.seconds(10)))
      }
      print("\(alert.name) is acknowledged by \(alert.acknowledgedBy)")
    }
  }
}
