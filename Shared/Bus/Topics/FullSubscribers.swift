/// When a publisher that connects waits for services that are full, and when they miss messages instead.
///
/// ZeroMQ does not say which subscriber is full, so waiting for one holds up all. It is worth while for one that is slow for a
/// moment; for one that stays full the others wait ever more seldom.
struct FullSubscribers {
  /// Times ``patience`` that full subscribers miss messages before they are waited for again, at most.
  static let longest = 64

  /// How long all wait.
  let patience: Duration
  private var blockedSince: ContinuousClock.Instant?
  /// Until then whoever is full misses messages; afterwards since when nobody does.
  private var lossyUntil: ContinuousClock.Instant?
  private(set) var isLossy = false
  private var pause: Duration

  init(patience: Duration) {
    self.patience = patience
    self.pause = patience
  }

  /// A subscriber is full.
  /// - Returns: whether it misses messages from now on.
  mutating func blocked(_ now: ContinuousClock.Instant) -> Bool {
    let since = self.blockedSince ?? now
    self.blockedSince = since
    guard now - since > self.patience else { return false }
    // One that is full again soon after the last time is likely the same.
    let isAgain = self.lossyUntil.map { since - $0 < self.pause } ?? false
    self.pause = isAgain ? min(self.pause * 2, self.patience * Self.longest) : self.patience
    self.blockedSince = nil
    self.lossyUntil = now + self.pause
    self.isLossy = true
    return true
  }

  /// A message went out to all.
  mutating func sent() { self.blockedSince = nil }

  /// - Returns: whether full subscribers are waited for again from now on.
  mutating func endsLossiness(_ now: ContinuousClock.Instant) -> Bool {
    guard self.isLossy, let until = self.lossyUntil, until <= now else { return false }
    self.isLossy = false
    return true
  }
}
