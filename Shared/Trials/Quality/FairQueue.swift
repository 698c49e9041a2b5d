/// What waits, and whose turn it is. A value. Robots take turns, each in its own order: one that sends much delays itself.
struct FairQueue<Element: Sendable>: Sendable {
  private var lines: [String: [Element]] = [:]
  /// Robots with something that waits; the first is next.
  private var turns: [String] = []

  mutating func append(_ element: Element, of robot: String) {
    if self.lines[robot] == nil { self.turns.append(robot) }
    self.lines[robot, default: []].append(element)
  }

  mutating func popFirst() -> Element? {
    guard let robot = self.turns.first, var line = self.lines[robot] else { return nil }
    self.turns.removeFirst()
    let element = line.removeFirst()
    self.lines[robot] = line.isEmpty ? nil : line
    if !line.isEmpty { self.turns.append(robot) }
    return element
  }
}
