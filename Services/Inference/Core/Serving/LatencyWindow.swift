/// The newest service times of a model, for exact quantiles in bounded memory.
struct LatencyWindow: Sendable {
  static let capacity = 1_000

  private var micros: [UInt64] = []
  private var next = 0
  /// Times ever added.
  private(set) var count: UInt64 = 0

  mutating func add(micros value: UInt64) {
    if self.micros.count < Self.capacity {
      self.micros.append(value)
    } else {
      self.micros[self.next] = value
    }
    self.next = (self.next + 1) % Self.capacity
    self.count += 1
  }

  /// The nearest-rank quantile in microseconds; 0 before the first time.
  /// - Parameter quantile: in (0, 1].
  func quantile(_ quantile: Double) -> Double {
    guard !self.micros.isEmpty else { return 0 }
    let rank = Int((quantile * Double(self.micros.count)).rounded(.up))
    return Double(self.micros.sorted()[max(0, min(self.micros.count, rank) - 1)])
  }
}
