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

/// What a worker says to the campaign.
enum WorkerLine {
  case began(UInt64, Scenario)
  case ended(SimulationReport)

  private static let numbers: [any WritableKeyPath<SimulationReport, Int> & Sendable] = [
    \.kills, \.faults, \.published, \.stored, \.lost, \.duplicates, \.steps,
  ]

  var text: String {
    switch self {
    case .began(let seed, let scenario): return "began \(seed) \(scenario.rawValue)"
    case .ended(let report):
      let numbers = Self.numbers.map { "\(report[keyPath: $0])" }.joined(separator: " ")
      // One line, whatever the failure says.
      let failure = report.failure.map { $0.replacing("\n", with: "\u{2028}") } ?? ""
      return "ended \(numbers) \(failure)"
    }
  }

  /// Nil for any other text, such as a trace.
  init?(_ text: Substring) {
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    switch words.first {
    case "began":
      guard words.count == 3, let seed = UInt64(words[1]), let scenario = Scenario(rawValue: String(words[2]))
      else { return nil }
      self = .began(seed, scenario)
    case "ended":
      var report = SimulationReport()
      guard words.count > Self.numbers.count + 1 else { return nil }
      for (path, word) in zip(Self.numbers, words.dropFirst()) {
        guard let number = Int(word) else { return nil }
        report[keyPath: path] = number
      }
      let failure = words.dropFirst(Self.numbers.count + 1).joined(separator: " ")
      report.failure = failure.isEmpty ? nil : failure.replacing("\u{2028}", with: "\n")
      self = .ended(report)
    default: return nil
    }
  }
}
