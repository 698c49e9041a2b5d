import ArgumentParser
import Foundation
import Schemas
import ServiceKit

/// An experiment as listings show it.
struct ExperimentLine: Encodable, Sendable {
  var experiment, baseline, candidate, state, decision, explanation: String
  var baselineTrials, candidateTrials, trialsPerArm: UInt64
  var pValue: Double

  init(_ experiment: Schemas.Experiment) {
    self.experiment = experiment.experimentID
    self.baseline = experiment.baseline?.version ?? ""
    self.candidate = experiment.candidate?.version ?? ""
    self.state = "\(experiment.state)"
    self.decision = "\(experiment.decision)"
    self.explanation = experiment.explanation
    self.baselineTrials = experiment.baseline?.trials ?? 0
    self.candidateTrials = experiment.candidate?.trials ?? 0
    self.trialsPerArm = experiment.trialsPerArm
    self.pValue = experiment.pValue
  }

  /// "12 + 9 of 2 × 100".
  var progress: String { "\(self.baselineTrials) + \(self.candidateTrials) of 2 × \(self.trialsPerArm)" }
}

extension Rollout {
  struct Experiments: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List experiments and what they decided, follow one, or end one.",
      subcommands: [List.self, Watch.self, End.self], defaultSubcommand: List.self)

    static func howToEnd(_ experiment: String, _ options: FleetOptions) -> String {
      CommandHint.text(
        "It goes on by itself.",
        [
          .init("End it", "fleet rollout experiments end \(experiment)"),
          .init("Follow it", "fleet rollout experiments watch \(experiment)"),
        ], again: options.again)
    }

    struct List: AsyncParsableCommand {
      static let configuration = CommandConfiguration(abstract: "Experiments and what they decided.")
      @OptionGroup var options: FleetOptions

      func run() async throws {
        let rows = try await self.options.withClients {
          try await $0.rollout.listExperiments(.init(), options: .within(.seconds(10))).experiments
        }
        .map(ExperimentLine.init)
        try Listing(
          columns: ["experiment", "baseline", "candidate", "state", "trials", "decision", "explanation"],
          rows: rows.map {
            [$0.experiment, $0.baseline, $0.candidate, $0.state, $0.progress, $0.decision, $0.explanation]
          }
        ).show(json: self.options.json ? rows : nil)
      }
    }

    struct Watch: AsyncParsableCommand {
      static let configuration = CommandConfiguration(abstract: "Follow an experiment until it is decided.")
      @OptionGroup var options: FleetOptions
      @Argument(help: "Id of the experiment.") var experiment: String

      func run() async throws {
        let (id, options) = (self.experiment, self.options)
        try await options.withClients { clients in
          let ended = try await Following.run {
            Experiments.howToEnd(id, options)
          } _: {
            try await Self.follow(id, clients)
          }
          try Listing.show("\(id): \(ended.decision). \(ended.explanation)", json: options.json ? ended : nil)
        }
      }

      private static func follow(_ id: String, _ clients: FleetClients) async throws -> ExperimentLine {
        let progress = ProgressReport()
        let patience = Patience(progress: progress)
        while true {
          let now = try await patience.ask("rollout") {
            try await clients.rollout.getExperiment(
              GetExperimentRequest(experimentID: id), options: .within(.seconds(5)))
          }
          let line = ExperimentLine(now)
          guard now.state == .running else { return line }
          progress.update(
            "experiment \(id)", done: Double(min(line.baselineTrials, line.candidateTrials)),
            total: Double(line.trialsPerArm), detail: "\(line.progress) trials")
          try await Task.sleep(for: .seconds(1))
        }
      }
    }

    struct End: AsyncParsableCommand {
      static let configuration = CommandConfiguration(
        abstract: "End a running experiment now: it is decided on what there is.")
      @OptionGroup var options: FleetOptions
      @Argument(help: "Id of the experiment.") var experiment: String

      func run() async throws {
        let request = EndExperimentRequest(experimentID: self.experiment)
        let ended = try await self.options.withClients {
          ExperimentLine(try await $0.rollout.endExperiment(request, options: .within(.seconds(30))))
        }
        try Listing.show(
          "\(ended.experiment) is \(ended.state): \(ended.decision). \(ended.explanation)",
          json: self.options.json ? ended : nil)
      }
    }
  }
}
