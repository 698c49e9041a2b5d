import Foundation
import Simulations

/// Runs seeds one after another in this process, and says of each what became of it, a line each on standard output.
struct Worker {
  /// Seeds of which one is run a second time, to see that it is the same run.
  private static let repeated: UInt64 = 50

  let scenarios: [Scenario]
  let traces: Bool

  func run(_ seeds: Range<UInt64>) {
    for seed in seeds {
      for scenario in self.scenarios {
        self.say(.began(seed, scenario))
        var report = self.simulate(scenario, seed)
        if report.failure == nil, seed.isMultiple(of: Self.repeated) {
          let again = self.simulate(scenario, seed)
          if again.hash != report.hash {
            report.failure =
              "the seed made another run when it was run again: something under simulation is not driven by it"
          }
        }
        self.say(.ended(report))
      }
    }
  }

  private func simulate(_ scenario: Scenario, _ seed: UInt64) -> SimulationReport {
    let say: @Sendable (String) -> Void = { text in print(text) }
    let listener = self.traces ? say : nil
    let folder = "/dev/shm/fleetloop-simulation-\(getpid())/\(scenario)-\(seed)"
    defer { try? FileManager.default.removeItem(atPath: "/dev/shm/fleetloop-simulation-\(getpid())") }
    do {
      return try scenario.run(seed: seed, folder: folder, listener: listener)
    } catch {
      var report = SimulationReport()
      report.failure = "the simulation could not be set up: \(error)"
      return report
    }
  }

  private func say(_ line: WorkerLine) {
    FileHandle.standardOutput.write(Data((line.text + "\n").utf8))
  }
}
