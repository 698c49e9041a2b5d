package import ArgumentParser
import GRPCCore
import ServiceKit

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

  /// What a command ends with: wrong usage has a status of its own, and what a service said commands no terminal.
  package static func readable(_ error: any Error) -> any Error {
    guard error is FleetError || error is RPCError else { return error }
    let text = VisibleText.of("\(error)", lines: true)
    guard let code = (error as? FleetError)?.code else { return FleetError(.refused, text) }
    return code == .usage ? ValidationError(text) : FleetError(code, text)
  }
}
