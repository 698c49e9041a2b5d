import ArgumentParser
import Foundation
import ServiceKit
import TrainingCore

@main struct Training: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "training", abstract: "Turns stored trials into signed models.")

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    Self.makeOpenMPPassive()
    try await ServiceProcess.run(
      "training", options: self.options, settings: TrainingSettings.all, reusesLargeBlocks: true
    ) {
      try await TrainingApplication.parts($0)
    }
  }

  /// LibTorch's OpenMP threads spin while they wait, which on a busy machine costs more than it gains. OpenMP reads its
  /// environment when it is loaded, before `main`: so set it and begin again.
  private static func makeOpenMPPassive() {
    guard getenv("OMP_WAIT_POLICY") == nil else { return }
    setenv("OMP_WAIT_POLICY", "passive", 1)
    var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
    execv("/proc/self/exe", &arguments)
    // Without /proc the service still works, only slower.
  }
}
