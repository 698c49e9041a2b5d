package import ArgumentParser
import GRPCCore

/// The operator's command line.
package struct Fleet: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "fleet",
    abstract: "Closes the learning loop of a robot fleet.",
    discussion: "Exit status: 0 done, 1 failed, 64 wrong usage. Every listing command takes --json.",
    subcommands: [
      Up.self, Down.self, Status.self, Loop.self, Robots.self, Trials.self, Train.self, Models.self,
      Rollout.self,
      Alerts.self, Keys.self, Bench.self,
    ])

  package init() {}

  /// An error of a service in words that say what to do.
  package static func readable(_ error: any Error) -> any Error {
    guard let status = error as? RPCError else { return error }
    switch status.code {
    case .unavailable, .deadlineExceeded:
      return FleetError(
        .notRunning,
        "The fleet's service does not answer (\(status.message)). Is it up? Try: fleet status --data FOLDER")
    default:
      return FleetError(.childFailed, "\(status.code): \(status.message)")
    }
  }
}
