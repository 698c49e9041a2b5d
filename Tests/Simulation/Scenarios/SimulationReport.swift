import SimulationKit

/// What became of one seed.
package struct SimulationReport: Sendable {
  /// Hosts that died.
  package var kills = 0
  /// Operations, messages and clocks that were harmed.
  package var faults = 0
  /// Trials that their robots filed, or reports that they made.
  package var published = 0
  /// Trials, or versions, that came to where they belong.
  package var stored = 0
  package var lost = 0
  package var duplicates = 0
  /// The promise that broke; nil where all held.
  package var failure: String?
  /// Of everything that happened, in order.
  package var hash: UInt64 = 0
  package var steps = 0

  package init() {}

  init(_ simulation: Simulation, _ troubles: Troubles) {
    self.kills = troubles.kills
    self.faults = troubles.faults
    self.failure = simulation.failure
    self.hash = simulation.trace.hash
    self.steps = simulation.steps
  }

  package static func += (sum: inout SimulationReport, other: SimulationReport) {
    sum.kills += other.kills
    sum.faults += other.faults
    sum.published += other.published
    sum.stored += other.stored
    sum.lost += other.lost
    sum.duplicates += other.duplicates
    sum.steps += other.steps
  }
}

/// What can be simulated.
package enum Scenario: String, Sendable, CaseIterable {
  /// Robots, their spools and ingest.
  case delivery
  /// Rollout, and robots that follow it.
  case rollout
}
