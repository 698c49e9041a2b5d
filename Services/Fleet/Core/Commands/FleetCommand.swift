package import ArgumentParser

/// The operator's command line.
package struct Fleet: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "fleet",
    abstract: "Closes the learning loop of a robot fleet.",
    discussion: "Exit status: 0 done, 1 failed, 64 wrong usage. Every listing command takes --json.",
    subcommands: [
      Up.self, Down.self, Status.self, Loop.self, Robots.self, Work.self, Trials.self, Train.self,
      Models.self,
      Rollout.self,
      Alerts.self, Keys.self, Bench.self,
    ])

  package init() {}

  /// What a command ends with: wrong usage has a status of its own.
  package static func readable(_ error: any Error) -> any Error {
    guard let error = error as? FleetError, error.code == .usage else { return error }
    return ValidationError(error.description)
  }
}
