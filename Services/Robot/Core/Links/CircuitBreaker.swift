package import Storage

/// Keeps a robot from waiting at every step for a service that does not answer. A value: no clock, no timer.
///
/// After some time-outs in a row it opens: nobody calls any more. After a pause one call goes out as a probe for which nobody
/// waits; an answer to it closes the breaker again, and each probe that fails makes the next pause longer.
package struct CircuitBreaker: Sendable {
  /// What is to become of a call.
  package enum Admission: Sendable, Hashable {
    /// Make it and wait for the answer.
    case call
    /// Do without; make it all the same, for nobody, to see whether the service is back.
    case probe
    /// Do without.
    case refuse
  }

  private enum State {
    case closed(failures: Int)
    case open(until: ContinuousClock.Instant)
    case probing
  }

  private let failuresToOpen: Int
  private var pauses: Backoff
  private var state = State.closed(failures: 0)

  /// - Parameters:
  ///   - failuresToOpen: time-outs in a row, at least 1.
  ///   - firstPause: before the first probe; pauses double up to `longestPause`.
  package init(
    failuresToOpen: Int = 5, firstPause: Duration = .milliseconds(500), longestPause: Duration = .seconds(5),
    runtime: Runtime = .system
  ) {
    self.failuresToOpen = max(1, failuresToOpen)
    self.pauses = Backoff(first: firstPause, longest: longestPause, runtime: runtime)
  }

  package mutating func admit(now: ContinuousClock.Instant) -> Admission {
    switch self.state {
    case .closed: return .call
    case .probing: return .refuse
    case .open(let until):
      guard until <= now else { return .refuse }
      self.state = .probing
      return .probe
    }
  }

  /// The service answered, whatever it said.
  package mutating func succeeded() {
    self.state = .closed(failures: 0)
    self.pauses.reset()
  }

  /// A call or probe had no answer in time.
  package mutating func failed(now: ContinuousClock.Instant) {
    switch self.state {
    case .closed(let failures) where failures + 1 < self.failuresToOpen:
      self.state = .closed(failures: failures + 1)
    case .closed, .probing: self.state = .open(until: now + self.pauses.next())
    // A call from before it opened.
    case .open: break
    }
  }
}
