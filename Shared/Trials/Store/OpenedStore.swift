import Schemas
import Storage

/// What a store consists of, opened, and log and catalog agree.
struct OpenedStore {
  let catalog: TrialCatalog
  let log: TrialLog
  let damageBook: DamageBook
  let snapshots: SnapshotFolder
  let counters: Counters

  /// - Throws: ``TrialsError``; `.catalog` where the catalog has to be made anew: then it was changed in nothing that a new one does
  ///   not find in the log again.
  init(
    folder: String, configuration: TrialStore.Configuration, disk: any Disk, runtime: Runtime,
    catalog: TrialCatalog, tell: (TrialStore.Notice) -> Void
  ) throws {
    self.catalog = catalog
    try TrialsError.disk { () throws(StorageError) in try disk.makeFolder(folder) }
    let book = try DamageBook(folder: "\(folder)/damage", disk: disk)
    self.damageBook = book
    self.snapshots = try SnapshotFolder(
      folder: "\(folder)/snapshots", disk: disk, runtime: runtime, adopting: try catalog.oldSnapshots())
    try catalog.dropOldSnapshots()
    self.counters = Counters(try catalog.counters())
    let now = runtime.unixNanos()
    self.log = try TrialLog(
      folder: "\(folder)/log", configuration: configuration.log, disk: disk,
      acknowledgedEnd: {
        try catalog.places(in: $0).last.map { $0.position.offset + $0.position.length } ?? 0
      },
      damaged: { found in
        let lost = try catalog.places(
          in: found.file, from: found.bytes.lowerBound, until: found.bytes.upperBound)
        let damage = try book.note(found, lost: lost, nowUnixNanos: now)
        if let damage { tell(.damage(damage)) }
      })
    if self.log.tornBytes > 0 { tell(.torn(file: self.log.currentFile, bytes: self.log.tornBytes)) }
    var reconciliation = Reconciliation(
      log: self.log, catalog: catalog, damages: book, limits: configuration.limits, nowUnixNanos: now)
    do {
      // It is noted, and so found no more, also where the catalog fails then.
      defer { for damage in reconciliation.found { tell(.damage(damage)) } }
      try reconciliation.run()
    }
    for (path, error) in book.unreadable { tell(.damageRecordUnreadable(path: path, error)) }
    if reconciliation.added + reconciliation.dropped > 0 {
      tell(.reconciled(added: reconciliation.added, dropped: reconciliation.dropped))
    }
  }

  /// Opens a store on the machine's disk. A catalog that is damaged is put aside, and made anew from the log.
  static func onSystemDisk(
    folder: String, configuration: TrialStore.Configuration, tell: (TrialStore.Notice) -> Void
  ) throws -> OpenedStore {
    let path = "\(folder)/catalog.sqlite"
    func open() throws -> OpenedStore {
      let catalog = try TrialCatalog(path: path)
      do {
        return try OpenedStore(
          folder: folder, configuration: configuration, disk: SystemDisk(), runtime: .system,
          catalog: catalog, tell: tell)
      } catch {
        catalog.close()
        throw error
      }
    }
    do {
      return try open()
    } catch let error as TrialsError where error.code == .catalog {
      tell(.catalogMadeAnew(damaged: try TrialCatalog.setAside(path, number: UnixTime.now), error))
      return try open()
    }
  }
}
