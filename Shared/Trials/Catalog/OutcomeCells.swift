import Schemas

/// Outcomes for which one message has room. Names come from outside, and nothing bounds how many there are: cells for which there is
/// no room are counted without their task, and then without any name, so that sums stay true.
struct OutcomeCells {
  /// Stands for the names that a cell has lost.
  static let others = "(others)"

  /// Bytes of cells with all their names; those without tasks may have as many again.
  private let room: Int
  private var bytes = 0
  private var places: [OutcomeCount: Int] = [:]
  private(set) var counts: [OutcomeCount] = []

  init(room: Int) { self.room = room }

  /// Whoever comes first keeps its names.
  mutating func add(_ cell: OutcomeCount) {
    var names = OutcomeCount(
      task: cell.task, modelVersion: cell.modelVersion, robot: cell.robot, mode: cell.mode,
      releaseID: cell.releaseID)
    if self.count(cell, as: names, room: self.room) { return }
    names.task = Self.others
    if self.count(cell, as: names, room: 2 * self.room) { return }
    names = OutcomeCount(
      task: Self.others, modelVersion: Self.others, robot: Self.others, releaseID: Self.others)
    _ = self.count(cell, as: names, room: .max)
  }

  /// The same in one message that can be read: a small cell takes far more memory than bytes, which is bounded too.
  func readable() -> [OutcomeCount] {
    var cells = self
    while TrialLimits.readable(SummarizeOutcomesResponse(counts: cells.counts)) == nil {
      var fewer = OutcomeCells(room: min(cells.room, cells.bytes) / 2)
      for cell in cells.counts { fewer.add(cell) }
      cells = fewer
    }
    return cells.counts
  }

  /// - Returns: false where there is no room for another cell.
  private mutating func count(_ cell: OutcomeCount, as names: OutcomeCount, room: Int) -> Bool {
    let place = self.places[names] ?? self.counts.count
    if place == self.counts.count {
      guard self.bytes < room else { return false }
      self.bytes += cell.serializedSize
      self.places[names] = place
      self.counts.append(names)
    }
    self.counts[place].successes += cell.successes
    self.counts[place].trials += cell.trials
    self.counts[place].aborted += cell.aborted
    return true
  }
}
