import Storage

/// Runs quality checks on a thread of its own: they decode video, and must hold up neither the disk nor the cooperative pool.
actor QualityChecker {
  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  init(runtime: Runtime) { self.executor = runtime.makeSerialExecutor("fleetloop.trials.checks") }

  func reasons(for trial: TrialRecord, limits: QualityLimits) -> [QualityReason] {
    QualityCheck.reasons(for: trial, limits: limits)
  }
}
