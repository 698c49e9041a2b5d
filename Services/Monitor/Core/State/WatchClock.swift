/// How long the monitor has watched. Time in which it did not run does not pass here, so that its own stall, a suspended
/// machine or a step of the clock is nobody's silence.
package struct WatchClock: Sendable, Hashable {
  /// Time watched since the process began; moves with each tick.
  package private(set) var watched: Duration = .zero
  private var lastTick: ContinuousClock.Instant?

  /// Lets time pass.
  /// - Parameters:
  ///   - now: monotonic.
  ///   - limit: what passes at most: where more went by since the last tick, the monitor did not run.
  mutating func tick(_ now: ContinuousClock.Instant, atMost limit: Duration) {
    self.watched += min(limit, max(.zero, now - (self.lastTick ?? now)))
    self.lastTick = now
  }
}
