import Schemas

/// What the catalog has to learn of the log: trials that were stored, and places that hold their trials no more.
///
/// Whoever writes it takes it as it is (``rows``, ``lost``) and says later what of that was written: more may have come meanwhile,
/// and what was under way may have been lost.
struct IndexBacklog {
  struct LostPlace: Hashable, Sendable {
    var name: TrialName
    var position: LogPosition
  }

  /// In the log and not known to be in the catalog, in the log's order.
  private(set) var rows: [TrialRow] = []
  /// Bytes that these rows take in memory, about.
  private(set) var bytes = 0
  private var places: [TrialName: LogPosition] = [:]
  /// Found not to hold their trials any more. The catalog may name them until it is written; nobody else believes it.
  private(set) var lost: Set<LostPlace> = []

  var isEmpty: Bool { self.rows.isEmpty && self.lost.isEmpty }

  /// Where a trial lies that the catalog may not know yet.
  func place(of name: TrialName) -> LogPosition? { self.places[name] }

  func isLost(_ name: TrialName, at position: LogPosition) -> Bool {
    self.lost.contains(LostPlace(name: name, position: position))
  }

  mutating func add(_ row: TrialRow) {
    self.rows.append(row)
    self.bytes += row.memory
    self.places[row.name] = row.position
  }

  /// Believes in a place no more. It is dropped from the catalog also where its row is not written: the row may be under way.
  mutating func lose(_ name: TrialName, at position: LogPosition) {
    self.forget([position])
    self.lost.insert(LostPlace(name: name, position: position))
  }

  /// The catalog has these rows, and these places no more.
  mutating func wrote(_ rows: [TrialRow], dropping lost: Set<LostPlace>) {
    self.forget(Set(rows.map(\.position)))
    self.lost.subtract(lost)
  }

  private mutating func forget(_ positions: Set<LogPosition>) {
    self.rows.removeAll { row in
      guard positions.contains(row.position) else { return false }
      self.bytes -= row.memory
      if self.places[row.name] == row.position { self.places[row.name] = nil }
      return true
    }
  }
}
