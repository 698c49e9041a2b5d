import ArgumentParser
import RolloutCore
import ServiceKit

@main
struct Main: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rollout",
    abstract: "Keeps the registry of models, and decides which robot acts with which version.")

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    try await ServiceProcess.run(
      "rollout", options: self.options, settings: RolloutSettings.all, build: RolloutProcess.parts)
  }
}
