import ArgumentParser
import Foundation
import Simulations

/// Runs simulations by seed, on every core, and ends with one line of counts.
@main
struct Main: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulation",
    abstract: "Runs the real delivery and rollout over simulated networks, disks and clocks, driven by seeds."
  )

  @Option(help: "Seeds to run.")
  var seeds = 1_000

  @Option(help: "The first seed; those that follow count up.")
  var seed: UInt64 = 1

  @Option(help: "What to simulate: delivery or rollout; both where it is left out.")
  var scenario: Scenario?

  @Flag(help: "Tell every event of each seed.")
  var trace = false

  @Flag(help: .hidden)
  var worker = false

  func validate() throws {
    guard self.seeds > 0, UInt64(self.seeds) <= UInt64.max - self.seed else {
      throw ValidationError("--seeds must be 1 or more, and --seed leave room for them.")
    }
  }

  func run() throws {
    try Self.fixHashing()
    let scenarios = self.scenario.map { [$0] } ?? Scenario.allCases
    let range = self.seed..<self.seed + UInt64(self.seeds)
    if self.worker || self.trace {
      Worker(scenarios: scenarios, traces: self.trace).run(range)
      return
    }
    let sum = Campaign(scenarios: scenarios).run(range)
    for failure in sum.failures.prefix(10) {
      print("simulate: BROKEN \(failure)")
    }
    print(
      "simulate seed=\(self.seed) kills=\(sum.total.kills) faults=\(sum.total.faults) "
        + "published=\(sum.total.published) stored=\(sum.total.stored) lost=\(sum.total.lost) "
        + "duplicates=\(sum.total.duplicates) crashes=\(sum.crashes)")
    if !sum.failures.isEmpty { throw ExitCode(1) }
  }
}

extension Main {
  /// Dictionaries are laid out by their addresses otherwise, and no run would be like another. Read when a process begins, so it
  /// begins anew.
  private static func fixHashing() throws {
    let variable = "SWIFT_DETERMINISTIC_HASHING"
    guard ProcessInfo.processInfo.environment[variable] != "1" else { return }
    setenv(variable, "1", 1)
    var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
    execv("/proc/self/exe", &arguments)
    throw CleanExit.message("simulation cannot start itself: \(String(cString: strerror(errno)))")
  }
}

extension Scenario: ExpressibleByArgument {}
