package import ArgumentParser

/// `fleet up`: all services and robots of this machine until Ctrl-C.
package struct Up: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Start all services and simulated robots on this machine, and keep them up until Ctrl-C.")

  @Option(help: "Folder of the fleet; made where it is missing.")
  var data: String = "data"
  @Option(help: "Number of simulated robots.")
  var robots: Int = 4
  @Option(help: "What the robots are: metaworld (MuJoCo) or synthetic (a load generator).")
  var simulator: String = "metaworld"
  @Option(name: .customLong("set"), help: "A setting of a service, e.g. --set monitor.http=127.0.0.1:7480.")
  var settings: [String] = []

  package init() {}

  package func validate() throws {
    guard (0...100).contains(self.robots) else {
      throw ValidationError("--robots must be between 0 and 100.")
    }
    guard ["metaworld", "synthetic"].contains(self.simulator) else {
      throw ValidationError("--simulator must be metaworld or synthetic.")
    }
  }

  package func run() async throws {
    let names = (0..<self.robots).map { "robot-\($0 + 1)" }
    var settings: [String: String] = [:]
    for text in self.settings {
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { throw ValidationError("'--set \(text)' is not key=value.") }
      settings[parts[0]] = parts[1]
    }
    let fleet = try LocalFleet(data: self.data, robots: names, simulator: self.simulator, settings: settings)
    let progress = ProgressReport()
    do {
      try await FleetSession.run(fleet, progress: progress) { supervisor in
        progress.line("fleet is up: \(names.count) robots; Ctrl-C ends it")
        try await supervisor.watch()
      }
    } catch is CancellationError {
      progress.line("fleet is down")
    }
  }
}
