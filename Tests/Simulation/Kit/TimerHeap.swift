/// Something that is to happen at an instant of the simulation.
public final class Timer {
  let at: Duration
  let sequence: UInt64
  var action: (() -> Void)?

  init(at: Duration, sequence: UInt64, action: @escaping () -> Void) {
    self.at = at
    self.sequence = sequence
    self.action = action
  }

  public func cancel() { self.action = nil }

  func fire() {
    guard let action = self.action else { return }
    self.action = nil
    action()
  }
}

/// Timers by their time; those of the same time by the order in which they were set.
struct TimerHeap {
  private var timers: [Timer] = []

  var first: Timer? { self.timers.first }

  mutating func insert(_ timer: Timer) {
    var index = self.timers.count
    self.timers.append(timer)
    while index > 0, Self.isBefore(timer, self.timers[(index - 1) / 2]) {
      self.timers.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func removeFirst() {
    self.timers.swapAt(0, self.timers.count - 1)
    self.timers.removeLast()
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2]
      where child < self.timers.count && Self.isBefore(self.timers[child], self.timers[least]) {
        least = child
      }
      guard least != index else { return }
      self.timers.swapAt(index, least)
      index = least
    }
  }

  private static func isBefore(_ one: Timer, _ other: Timer) -> Bool {
    one.at == other.at ? one.sequence < other.sequence : one.at < other.at
  }
}
