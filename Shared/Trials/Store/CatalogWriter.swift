import Schemas
import Storage

/// Writes the catalog on a thread of its own: however long that takes, trials go on being stored and acknowledged.
actor CatalogWriter {
  /// What one transaction writes.
  struct Batch: Sendable {
    var rows: [TrialRow]
    var files: [TrialLog.FileState]
    var lost: Set<IndexBacklog.LostPlace>
    var counters: [String: Int]
  }

  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let catalog: TrialCatalog

  init(_ catalog: TrialCatalog, runtime: Runtime) {
    self.catalog = catalog
    self.executor = runtime.makeSerialExecutor("fleetloop.trials.index")
  }

  /// - Throws: what the catalog throws; then nothing was written.
  func write(_ batch: Batch) throws {
    try self.catalog.add(
      batch.rows, files: batch.files, dropping: batch.lost.map { ($0.name, $0.position) },
      counters: batch.counters)
  }
}
