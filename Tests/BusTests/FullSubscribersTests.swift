import Testing

@testable import Bus

@Suite struct FullSubscribersTests {
  private let begin = ContinuousClock.now

  /// Publishes every 10 ms for so many seconds beside a subscriber that is full at the given times, and waits as the loop does.
  /// - Returns: seconds in which everybody waited.
  private func waited(for seconds: Int, _ full: inout FullSubscribers, isFull: (Int) -> Bool) -> Double {
    var blocked = 0
    for step in 0..<seconds * 100 {
      let now = self.begin + .milliseconds(step * 10)
      _ = full.endsLossiness(now)
      guard !full.isLossy, isFull(step) else {
        full.sent()
        continue
      }
      blocked += 1
      _ = full.blocked(now)
    }
    return Double(blocked) / 100
  }

  @Test func `who never reads holds up the others less and less`() {
    var full = FullSubscribers(patience: .seconds(1))
    let all = self.waited(for: 600, &full) { _ in true }
    #expect(all > 1 && all < 20, "half of the time would be 300 s")
  }

  @Test func `who is slow for a moment misses nothing`() {
    var full = FullSubscribers(patience: .seconds(1))
    let all = self.waited(for: 600, &full) { $0 % 200 < 50 }
    #expect(all == 150)
    #expect(!full.isLossy)
  }

  @Test func `a subscriber that is full long after another one is waited for as the first was`() {
    var full = FullSubscribers(patience: .seconds(1))
    // Full for 40 s, which is four times; then not for 200 s.
    let first = self.waited(for: 40, &full) { _ in true }
    #expect(first > 4)
    let later = self.begin + .seconds(600)
    let events = [
      full.endsLossiness(later), full.blocked(later + .seconds(200)), full.blocked(later + .seconds(202)),
      full.endsLossiness(later + .milliseconds(202_900)), full.endsLossiness(later + .milliseconds(203_100)),
    ]
    #expect(events == [true, false, true, false, true])
  }
}
