package import ArgumentParser
import Schemas
import ServiceKit
import Statistics

/// `fleet trials`.
package struct Trials: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List stored trials, or count outcomes.", subcommands: [List.self, Summary.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Stored trials, newest first.")
    @OptionGroup var options: FleetOptions
    @Option(help: "Only this robot.") var robot: String?
    @Option(help: "Only this task.") var task: String?
    @Option(help: "Only this outcome: success, failure or aborted.") var outcome: String?
    @Option(help: "Only this model version.") var version: String?
    @Option(help: "Only trials stored since: 90s, 30m, 2h, 7d, or a date, 2026-11-24T10:00 (UTC).")
    var since: String?
    @Option(help: "At most so many, 1 to 1000.") var limit: UInt32 = 50
    @Option(help: "Go on behind an earlier page, which said with what.") var after: String?

    private static let outcomes: [String: Outcome] = [
      "success": .success, "failure": .failure, "aborted": .aborted,
    ]

    struct Row: Encodable {
      var robot, trial, task, mode, model, outcome: String
      var steps: UInt32
      var quarantined: [String]
      var storedUnixNanos: Int64
    }

    /// What `--json` prints.
    struct Page: Encodable {
      var trials: [Row]
      /// What `--after` takes; empty after the last page.
      var next: String
    }

    func validate() throws {
      guard (1...1_000).contains(self.limit) else { throw ValidationError("--limit must be 1 to 1000.") }
      if let outcome, Self.outcomes[outcome] == nil {
        throw ValidationError("--outcome must be success, failure or aborted.")
      }
      if let since, TimeText.past(since) == nil {
        throw ValidationError("--since is '\(since)': it must be like 2h, 30m, 7d or 2026-11-24T10:00 (UTC).")
      }
    }

    func run() async throws {
      let query = TrialQuery(
        robots: self.robot.map { [$0] } ?? [], tasks: self.task.map { [$0] } ?? [],
        modelVersions: self.version.map { [$0] } ?? [],
        storedFromUnixNanos: self.since.flatMap { TimeText.past($0) } ?? 0, includeQuarantined: true,
        outcomes: self.outcome.flatMap { Self.outcomes[$0] }.map { [$0] } ?? [])
      let request = ListTrialsRequest(
        query: query, pageSize: self.limit, pageToken: self.after ?? "", newestFirst: true)
      let page = try await self.options.withClients {
        try await $0.ingest.listTrials(request, options: .within(.seconds(30)))
      }
      let rows = page.trials.map { trial in
        let header = trial.header ?? TrialHeader()
        return Row(
          robot: header.robot, trial: header.trialID, task: header.task, mode: "\(header.mode)",
          model: header.modelVersion, outcome: "\(trial.end?.outcome ?? .unspecified)",
          steps: trial.end?.steps ?? 0, quarantined: trial.reasons, storedUnixNanos: trial.storedUnixNanos)
      }
      try Listing(
        columns: ["robot", "trial", "task", "mode", "model", "outcome", "steps", "stored", "quarantined"],
        rows: rows.map {
          [
            $0.robot, $0.trial, $0.task, $0.mode, $0.model.isEmpty ? "–" : $0.model, $0.outcome,
            "\($0.steps)",
            TimeText.date($0.storedUnixNanos), $0.quarantined.joined(separator: ","),
          ]
        }
      ).show(json: self.options.json ? Page(trials: rows, next: page.nextPageToken) : nil)
      if !page.nextPageToken.isEmpty, !self.options.json {
        ProgressReport().line("There are more: the same command with --after \(page.nextPageToken)")
      }
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
      try Listing(
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
