/// When a process that ended is started again: soon where it had worked, ever later where it keeps crashing, so that one
/// broken process neither takes the machine nor ends its fleet. A value, without a clock of its own.
package struct RestartPolicy: Sendable, Equatable {
  /// A process that ends sooner than this after its start is crashing.
  package var fastEnd: Duration = .seconds(5)
  /// Wait after the first end; doubled with each fast one after it, up to ``longestPause``.
  package var firstPause: Duration = .seconds(1)
  package var longestPause: Duration = .seconds(60)
  /// Fast ends in a row after which it is left down for ``leftDown`` each time.
  package var patience = 8
  package var leftDown: Duration = .seconds(300)

  /// Fast ends in a row.
  package private(set) var fastEnds = 0
  /// It has crashed so often that somebody should look at it.
  package var isLeftDown: Bool { self.fastEnds >= self.patience }

  package init() {}

  /// - Parameter uptime: how long it ran.
  /// - Returns: how long to wait before it is started again.
  package mutating func pause(afterEndOf uptime: Duration) -> Duration {
    guard uptime < self.fastEnd else {
      self.fastEnds = 0
      return self.firstPause
    }
    self.fastEnds += 1
    guard !self.isLeftDown else { return self.leftDown }
    // 2^30 pauses are more than any longest one; no shift overflows.
    return min(self.longestPause, self.firstPause * (1 << min(30, self.fastEnds - 1)))
  }
}
