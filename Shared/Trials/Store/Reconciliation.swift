import Schemas
import Storage

/// Holds catalog and log against each other at the start. The log is the truth: rows that point to nothing are dropped, trials
/// that the catalog lacks are added.
///
/// Only files whose length is not what the catalog saw last are read, and the one that is appended to.
struct Reconciliation {
  /// Trials that are added in one transaction at most, and bytes of their rows at which it ends.
  private static let batch = (trials: 100, bytes: 8 << 20)

  let log: TrialLog
  let catalog: TrialCatalog
  let damages: DamageBook
  let limits: QualityLimits
  let nowUnixNanos: Int64
  /// Damage that was found.
  private(set) var found: [LogDamage] = []
  private(set) var dropped = 0
  private(set) var added = 0

  init(
    log: TrialLog, catalog: TrialCatalog, damages: DamageBook, limits: QualityLimits, nowUnixNanos: Int64
  ) {
    self.log = log
    self.catalog = catalog
    self.damages = damages
    self.limits = limits
    self.nowUnixNanos = nowUnixNanos
  }

  mutating func run() throws {
    let sizes = try self.log.sizes()
    let known = try self.catalog.files()
    for file in known.keys.sorted() where sizes[file] == nil {
      let places = try self.catalog.places(in: file)
      try self.lose(places, missingFrom: file, at: 0..<0)
      try self.drop(places)
      try self.catalog.forget(file: file)
    }
    let suspects = sizes.keys.sorted().filter {
      known[$0]?.bytes != sizes[$0] || $0 == self.log.currentFile || $0 == self.log.recovered?.file
    }
    // First what is not there, in all files: a trial may stand in another file than the catalog says.
    for file in suspects where known[file] != nil { try self.dropRows(of: file, bytes: sizes[file] ?? 0) }
    for file in suspects { try self.addRows(of: file, bytes: sizes[file] ?? 0) }
    self.log.forgetRecovered()
  }

  private mutating func dropRows(of file: String, bytes: Int) throws {
    let places = try self.catalog.places(in: file)
    guard !places.isEmpty else { return }
    let contents = try self.log.contents(of: file)
    let entries = Dictionary(uniqueKeysWithValues: contents.entries.map { ($0.chunk.offset, $0) })
    let present = Set(contents.entries.map(\.name))
    let wrong = places.filter {
      let entry = entries[$0.position.offset]
      return entry?.name != $0.name || entry?.chunk.length != $0.position.length
    }
    var gone = wrong.filter { !present.contains($0.name) }
    for range in contents.damages {
      let lost = gone.filter { range.contains($0.position.offset) }
      try self.note(try self.log.damage(in: file, at: range), lost)
      gone.removeAll { range.contains($0.position.offset) }
    }
    // Nothing stands there at all: the log is older than the catalog.
    if let first = gone.first?.position.offset {
      try self.lose(gone, missingFrom: file, at: min(first, bytes)..<bytes)
    }
    try self.drop(wrong)
  }

  private mutating func addRows(of file: String, bytes: Int) throws {
    let contents = try self.log.contents(of: file)
    for range in contents.damages { try self.note(try self.log.damage(in: file, at: range), []) }
    var rows: [TrialRow] = []
    var waiting = 0
    for entry in contents.entries {
      let position = LogPosition(file: file, offset: entry.chunk.offset, length: entry.chunk.length)
      if let known = try self.catalog.position(robot: entry.name.robot, trialID: entry.name.trialID) {
        guard known != position, try !self.stands(entry.name, at: known) else { continue }
        // It was stored once more because it is damaged there, and the catalog was not told.
        try self.drop([(entry.name, known)])
      }
      guard let trial = try self.log.trial(at: position) else {
        let range = position.offset..<position.offset + position.length
        try self.note(try self.log.damage(in: file, at: range), [(entry.name, position)])
        continue
      }
      rows.append(
        TrialRow(
          trial, position: position, reasons: QualityCheck.reasons(for: trial, limits: self.limits),
          storedUnixNanos: entry.storedUnixNanos))
      waiting += rows.last?.memory ?? 0
      if rows.count >= Self.batch.trials || waiting >= Self.batch.bytes {
        try self.add(&rows)
        waiting = 0
      }
    }
    try self.add(&rows)
    try self.catalog.add(
      [], files: [TrialLog.FileState(name: file, bytes: bytes, chunks: contents.entries.count)])
  }

  private func stands(_ name: TrialName, at position: LogPosition) throws -> Bool {
    guard let trial = try self.log.trial(at: position) else { return false }
    return TrialName(robot: trial.robot, trialID: trial.trialID) == name
  }

  private mutating func add(_ rows: inout [TrialRow]) throws {
    try self.catalog.add(rows, files: [])
    self.added += rows.count
    rows = []
  }

  private mutating func drop(_ places: [(name: TrialName, position: LogPosition)]) throws {
    try self.catalog.drop(places)
    self.dropped += places.count
  }

  private mutating func lose(
    _ places: [(name: TrialName, position: LogPosition)], missingFrom file: String, at bytes: Range<Int>
  ) throws {
    guard !places.isEmpty else { return }
    try self.note(FoundDamage(bytes, missing: places.map(\.name), from: file), places)
  }

  private mutating func note(
    _ found: FoundDamage, _ lost: [(name: TrialName, position: LogPosition)]
  ) throws {
    let damage = try self.damages.note(found, lost: lost, nowUnixNanos: self.nowUnixNanos)
    if let damage { self.found.append(damage) }
  }
}
