import ArgumentParser
import MonitorCore
import ServiceKit

@main
struct Main: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "monitor",
    abstract: "Watches robots and releases, raises alerts, and shows the fleet over HTTP.")

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    try await ServiceProcess.run(
      "monitor", options: self.options, settings: MonitorSettings.all, build: MonitorProcess.parts)
  }
}
