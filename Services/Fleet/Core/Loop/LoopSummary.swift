import Foundation

/// What `fleet loop` did, as `--json` writes it. Scripts rely on the keys.
package struct LoopSummary: Codable, Sendable, Equatable {
  package struct Trials: Codable, Sendable, Equatable {
    /// Trials that robots filed in their spools.
    package var published: UInt64 = 0
    package var stored: UInt64 = 0
    package var rejected: [String: UInt64] = [:]
    /// Filed by a robot but not in the catalog at the end.
    package var lost: UInt64 = 0
    /// Trials that stand in the log more than once.
    package var duplicates: UInt64 = 0
  }

  package struct Model: Codable, Sendable, Equatable {
    package var version: String
    package var parent: String
    package var tasks: [String]
    package var parameters: UInt64
    package var trainSeconds: Double
    package var samplesPerSecond: Double
    package var optimizerSteps: UInt64
  }

  package struct Count: Codable, Sendable, Equatable {
    package var successes: UInt64
    package var trials: UInt64
  }

  package struct Experiment: Codable, Sendable, Equatable {
    package var baseline: String
    package var candidate: String
    /// "promote", "rollback" or "inconclusive".
    package var decision: String
    package var baselineTrials: UInt64
    package var baselineSuccesses: UInt64
    package var candidateTrials: UInt64
    package var candidateSuccesses: UInt64
    package var pValue: Double
  }

  package struct Transfer: Codable, Sendable, Equatable {
    package var task: String
    package var demonstrations: UInt64
    package var optimizerSteps: UInt64
    package var seconds: Double
    package var successes: UInt64
    package var trials: UInt64
  }

  package struct Rollback: Codable, Sendable, Equatable {
    package var from: String
    package var to: String
    /// From the release to the alert, and from the alert until every robot acted with the old model again.
    package var detectSeconds: Double
    package var restoreSeconds: Double
  }

  package struct Alert: Codable, Sendable, Equatable {
    package var name: String
    package var robot: String
    package var state: String
  }

  package struct Phase: Codable, Sendable, Equatable {
    package var name: String
    package var seconds: Double
  }

  package var trials = Trials()
  package var models: [Model] = []
  /// Closed-loop success on layouts that nobody trained on, by version and task.
  package var success: [String: [String: Count]] = [:]
  package var experiments: [Experiment] = []
  package var transfer: Transfer?
  package var rollbacks: [Rollback] = []
  package var alerts: [Alert] = []
  package var phases: [Phase] = []

  package init() {}

  package func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    do {
      try encoder.encode(self).write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw FleetError(.fileSystem, "Cannot write the summary to \(path).", cause: error)
    }
  }
}
