import Schemas
import Storage

/// Runs checks on a thread of its own: they decode video, and must hold up neither the disk nor the cooperative pool.
actor QualityChecker {
  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  init(runtime: Runtime) { self.executor = runtime.makeSerialExecutor("fleetloop.trials.checks") }

  /// - Throws: ``TrialsError`` `.refused` where nobody could read the trial once it is stored, with its images or without: what bytes
  ///   may unpack to grows with their number, and events may have come in more of them.
  func reasons(for trial: TrialRecord, limits: QualityLimits) throws(TrialsError) -> [QualityReason] {
    for event in trial.events + trial.withoutImages.events where TrialLimits.readable(event) == nil {
      throw TrialsError(.refused, "Event \(event.number) takes too much memory for its bytes.")
    }
    return QualityCheck.reasons(for: trial, limits: limits)
  }
}
