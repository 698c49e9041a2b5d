package import ArgumentParser
import Foundation
import Schemas
import ServiceKit

/// `fleet rollout`.
package struct Rollout: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Release a model, compare two, take one back.",
    subcommands: [List.self, Versions.self, Start.self, Rollback.self, Experiment.self, Experiments.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Releases, newest first.")
    @OptionGroup var options: FleetOptions

    struct Row: Encodable {
      var release, version, previous, state, reason, evidence: String
      var robots, waiting: [String]
      var createdUnixNanos: Int64
    }

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.rollout.listReleases(.init(), options: .within(.seconds(10))).releases
      }
      .map {
        Row(
          release: $0.releaseID, version: $0.version, previous: $0.previousVersion, state: "\($0.state)",
          reason: $0.reason, evidence: $0.evidence, robots: $0.robots, waiting: $0.waiting,
          createdUnixNanos: $0.createdUnixNanos)
      }
      try Listing(
        columns: ["release", "version", "before", "state", "robots", "waiting", "created", "reason"],
        rows: rows.map {
          [
            $0.release, $0.version, $0.previous.isEmpty ? "–" : $0.previous, $0.state, "\($0.robots.count)",
            $0.waiting.joined(separator: ","), TimeText.date($0.createdUnixNanos), $0.reason,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Versions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "What each robot should run and does run.")
    @OptionGroup var options: FleetOptions

    struct Row: Encodable { var robot, desired, reported, error: String }

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.rollout.getFleetVersions(.init(), options: .within(.seconds(10))).robots
      }
      .map { Row(robot: $0.robot, desired: $0.desired, reported: $0.reported, error: $0.error) }
      try Listing(
        columns: ["robot", "desired", "reported", "error"],
        rows: rows.map { [$0.robot, $0.desired, $0.reported, $0.error] }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "release", abstract: "Give a version to all robots, or to some.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Version of the model.") var version: String
    @Option(help: "Only this robot; repeat for more.") var robot: [String] = []
    @Option(help: "Why.") var reason: String?
    @Flag(
      inversion: .prefixedNo, help: "Take it back when the monitor finds it worse than the version before.")
    var guarded = true

    func run() async throws {
      let request = CreateReleaseRequest(
        version: self.version, robots: self.robot, reason: self.reason ?? "released by \(Operator.name)",
        guarded: self.guarded,
        requestID: UUID().uuidString)
      let release = try await self.options.withClients {
        try await $0.rollout.createRelease(request, options: .within(.seconds(30)))
      }
      try Listing.show(
        CommandHint.text(
          "\(release.releaseID): \(release.version) for \(release.robots.joined(separator: ", "))",
          [
            .init("Follow it", "fleet rollout"),
            .init("Take it back", "fleet rollout rollback \(release.releaseID)"),
          ], again: self.options.again),
        json: self.options.json ? ["release": release.releaseID, "version": release.version] : nil)
    }
  }

  struct Rollback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Take a release back: its robots get the version before.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the release.") var release: String
    @Option(help: "Why.") var reason: String?

    func run() async throws {
      let request = RollbackRequest(
        releaseID: self.release, reason: self.reason ?? "taken back by \(Operator.name)")
      let release = try await self.options.withClients {
        try await $0.rollout.rollback(request, options: .within(.seconds(30)))
      }
      let previous = release.previousVersion.isEmpty ? "no model" : release.previousVersion
      try Listing.show(
        "\(release.releaseID) is taken back; its robots get \(previous)",
        json: self.options.json
          ? ["release": release.releaseID, "previous": release.previousVersion, "state": "\(release.state)"]
          : nil)
    }
  }

  struct Experiment: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Compare a candidate with a baseline on randomly assigned halves of the fleet.")
    @OptionGroup var options: FleetOptions
    @Option(help: "Version that robots run now.") var baseline: String
    @Option(help: "Version to prove.") var candidate: String
    @Option(help: "Trials an arm before it is decided.") var trials: UInt64 = 100
    @Option(help: "Error probability of a decision when both are the same.") var alpha: Double = 0.05

    func run() async throws {
      let request = StartExperimentRequest(
        baseline: self.baseline, candidate: self.candidate, trialsPerArm: self.trials, alpha: self.alpha,
        requestID: UUID().uuidString)
      let options = self.options
      let experiment = try await options.withClients { clients in
        try await Following.run {
          Following.unanswered(
            "an experiment with \(request.candidate)", "fleet rollout experiments", options)
        } _: {
          try await clients.rollout.startExperiment(request, options: .within(.seconds(30)))
        }
      }
      let robots = experiment.candidate?.robots.joined(separator: ", ") ?? ""
      try Listing.show(
        "\(experiment.experimentID): \(self.candidate) on \(robots). "
          + Experiments.howToEnd(experiment.experimentID, self.options),
        json: self.options.json ? ExperimentLine(experiment) : nil)
    }
  }
}
