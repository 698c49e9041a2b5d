import Foundation

/// One line of a benchmark's result.
struct Row: Encodable, Sendable {
  var workload: String
  var system: String
  /// Nil where no single message was timed.
  var p50Microseconds: Double?
  var p99Microseconds: Double?
  var messagesPerSecond: Double
  var bytesPerSecond: Double

  private enum CodingKeys: String, CodingKey {
    case workload, system, p50Microseconds, p99Microseconds, messagesPerSecond, bytesPerSecond
  }

  /// Every key, null where there is no value.
  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(self.workload, forKey: .workload)
    try container.encode(self.system, forKey: .system)
    try container.encode(self.p50Microseconds, forKey: .p50Microseconds)
    try container.encode(self.p99Microseconds, forKey: .p99Microseconds)
    try container.encode(self.messagesPerSecond, forKey: .messagesPerSecond)
    try container.encode(self.bytesPerSecond, forKey: .bytesPerSecond)
  }
}

/// One measurement.
struct Sample: Sendable {
  var messages: Int
  var seconds: Double
  /// Microseconds, one each round trip; empty where only the rate was measured.
  var latencies: [Double] = []

  var rate: Double { self.seconds > 0 ? Double(self.messages) / self.seconds : 0 }

  /// - Parameter share: 0 to 1.
  func percentile(_ share: Double) -> Double? {
    guard !self.latencies.isEmpty else { return nil }
    let sorted = self.latencies.sorted()
    return sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
  }
}

extension Row {
  /// The medians of several measurements.
  init(_ samples: [Sample], workload: String, system: String, bytes: Int) {
    let rate = Self.median(samples.map(\.rate)) ?? 0
    self.init(
      workload: workload, system: system,
      p50Microseconds: Self.median(samples.compactMap { $0.percentile(0.5) }),
      p99Microseconds: Self.median(samples.compactMap { $0.percentile(0.99) }), messagesPerSecond: rate,
      bytesPerSecond: rate * Double(bytes))
  }

  private static func median(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.sorted()[values.count / 2]
  }
}
