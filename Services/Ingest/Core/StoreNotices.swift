package import Logging
import Schemas
package import ServiceKit
package import Trials

/// Says what the store has to tell in ingest's log, metrics and health.
package struct StoreNotices: Sendable {
  private let logger: Logger
  private let metrics: MetricsRegistry
  private let vitals: Vitals

  private static let catalog = "catalog"
  private static let catalogContent = "catalog-content"

  /// - Parameter vitals: told of a catalog that cannot be written.
  package init(logger: Logger, metrics: MetricsRegistry, vitals: Vitals) {
    self.logger = logger
    self.metrics = metrics
    self.vitals = vitals
  }

  package func tell(_ notice: TrialStore.Notice) {
    switch notice {
    case .damage(let damage):
      self.metrics.increment("ingest_log_damages_total")
      // All names are in the record of the damage and in the statistics.
      let named = damage.lost.prefix(20).map { "\($0.robot)/\($0.trialID)" }.joined(separator: " ")
      self.logger.error(
        "trial log damaged",
        metadata: [
          "log.file": "\(damage.file)", "log.offset": "\(damage.offset)", "log.bytes": "\(damage.bytes)",
          "trials.lost": "\(damage.lost.count)", "trials.lost.names": "\(named)",
          "trials.lost.unnamed": "\(damage.lostUnnamed)", "log.may-be-torn": "\(damage.mayBeTorn)",
        ])
    case .damageRecordUnreadable(let path, let error):
      self.logger.error(
        "record of damage cannot be read; what it said is not known", error: error,
        metadata: ["record.path": "\(path)"])
    case .torn(let file, let bytes):
      self.logger.notice(
        "torn end of the trial log cut off", metadata: ["log.file": "\(file)", "log.bytes": "\(bytes)"])
    case .reconciled(let added, let dropped):
      self.logger.notice(
        "catalog brought into line with the log",
        metadata: ["trials.added": "\(added)", "trials.dropped": "\(dropped)"])
    case .catalogBehind(let trials, let error):
      self.vitals.fail(Self.catalog, "Stored trials wait for the catalog, which cannot be written: \(error)")
      self.logger.error(
        "catalog not written; trials are stored and indexed later", error: error,
        metadata: ["trials.waiting": "\(trials)"])
    case .catalogCaughtUp:
      self.vitals.recover(Self.catalog)
      self.logger.notice("catalog written again")
    case .catalogDamaged(let error):
      self.vitals.fail(
        Self.catalogContent, "The catalog is damaged; no trial is stored until it is made anew: \(error)")
      self.logger.error("catalog damaged; it is made anew from the log", error: error)
    case .catalogMadeAnew(let path, let error):
      self.vitals.recover(Self.catalogContent)
      self.logger.error(
        "damaged catalog put aside and made anew from the log", error: error,
        metadata: ["catalog.path": "\(path)"])
    case .rotationFailed(let error):
      self.logger.error("log file not sealed; trials go on into it", error: error)
    }
  }
}
