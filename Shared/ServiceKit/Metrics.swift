import Synchronization

/// Every counter, gauge and histogram of one process, rendered as Prometheus text, where each name begins with `fleetloop_`.
///
/// Series are few and fixed by the code; labels come from closed sets (a robot, a version, a reason), and each metric
/// keeps at most ``maximumSeries`` of them, so that hostile names cannot fill memory.
public final class MetricsRegistry: Sendable {
  /// Label sets a metric may have before further ones are counted under `overflow="true"`.
  public static let maximumSeries = 1_000

  private let metrics = Mutex<[String: Metric]>([:])

  public init() {}

  /// Adds to a counter. Counters only grow.
  public func increment(
    _ name: String, by amount: Double = 1, labels: KeyValuePairs<String, String> = [:], help: String = ""
  ) {
    self.update(name, .counter, labels, help) { $0.value += max(0, amount) }
  }

  /// Sets a gauge.
  public func set(
    _ name: String, to value: Double, labels: KeyValuePairs<String, String> = [:], help: String = ""
  ) {
    self.update(name, .gauge, labels, help) { $0.value = value }
  }

  /// Adds one observation to a histogram.
  ///
  /// Buckets are the 1-2-5 series from 1 µs to 100 s when the unit is seconds, which is the unit that Prometheus asks for.
  public func observe(
    _ name: String, _ value: Double, labels: KeyValuePairs<String, String> = [:], help: String = ""
  ) {
    self.update(name, .histogram, labels, help) { $0.observe(value) }
  }

  /// An estimate of a histogram's quantile: the upper edge of its bucket; nil before the first observation.
  /// - Parameter quantile: in [0, 1].
  public func quantile(
    _ quantile: Double, of name: String, labels: KeyValuePairs<String, String> = [:]
  ) -> Double? {
    self.metrics.withLock { metrics in
      metrics[name]?.series[Self.text(labels)].flatMap { $0.quantile(quantile) }
    }
  }

  /// The value of a counter or gauge; 0 where it was never touched.
  public func value(_ name: String, labels: KeyValuePairs<String, String> = [:]) -> Double {
    self.metrics.withLock { $0[name]?.series[Self.text(labels)]?.value ?? 0 }
  }

  /// Prometheus text exposition format 0.0.4, metrics in the order of their names.
  public func renderPrometheus() -> String {
    self.metrics.withLock { metrics in
      metrics.sorted { $0.key < $1.key }.map { $0.value.render(name: "fleetloop_\($0.key)") }.joined()
    }
  }

  private func update(
    _ name: String, _ kind: Metric.Kind, _ labels: KeyValuePairs<String, String>, _ help: String,
    _ change: (inout Metric.Series) -> Void
  ) {
    let key = Self.text(labels)
    self.metrics.withLock { metrics in
      // In place: a copy out and back would copy every series of the metric.
      change(&metrics[name, default: Metric(kind: kind, help: help)][key, as: kind])
    }
  }

  private static func text(_ labels: KeyValuePairs<String, String>) -> String {
    labels.map { #"\#($0.key)="\#(Self.escaped($0.value))""# }.joined(separator: ",")
  }

  private static func escaped(_ value: String) -> String {
    value.reduce(into: "") { text, character in
      switch character {
      case "\\": text += #"\\"#
      case "\"": text += #"\""#
      case "\n": text += #"\n"#
      default: text.append(character)
      }
    }
  }
}

/// One metric with all of its label sets.
private struct Metric {
  enum Kind: String { case counter, gauge, histogram }

  struct Series {
    /// Upper edges in seconds.
    static let edges: [Double] =
      (-6...1).flatMap { exponent in
        [1, 2, 5].map { Double("\($0)e\(exponent)") ?? 0 }
      } + [100]

    var value = 0.0
    var sum = 0.0
    var counts: [UInt64] = []

    mutating func observe(_ value: Double) {
      if self.counts.isEmpty { self.counts = Array(repeating: 0, count: Self.edges.count + 1) }
      self.counts[Self.edges.firstIndex { value <= $0 } ?? Self.edges.count] += 1
      self.sum += value
    }

    func quantile(_ quantile: Double) -> Double? {
      let total = self.counts.reduce(0, +)
      guard total > 0 else { return nil }
      let rank = max(1, (quantile * Double(total)).rounded(.up))
      var seen = 0.0
      for (index, count) in self.counts.enumerated() {
        seen += Double(count)
        if seen >= rank { return index < Self.edges.count ? Self.edges[index] : .infinity }
      }
      return .infinity
    }
  }

  let kind: Kind
  let help: String
  var series: [String: Series] = [:]

  /// The series of these labels, or the one that gathers what is too much.
  subscript(labels: String, as kind: Kind) -> Series {
    get { self.series[labels] ?? Series() }
    _modify {
      precondition(kind == self.kind, "A metric is used both as \(self.kind) and \(kind).")
      let isKnown = self.series[labels] != nil || self.series.count < MetricsRegistry.maximumSeries
      yield &self.series[isKnown ? labels : #"overflow="true""#, default: Series()]
    }
  }

  func render(name: String) -> String {
    var text = self.help.isEmpty ? "" : "# HELP \(name) \(self.help)\n"
    text += "# TYPE \(name) \(self.kind.rawValue)\n"
    for (labels, series) in self.series.sorted(by: { $0.key < $1.key }) {
      switch self.kind {
      case .counter, .gauge:
        text += "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(series.value)\n"
      case .histogram:
        var cumulative: UInt64 = 0
        let comma = labels.isEmpty ? "" : ","
        for (index, count) in series.counts.enumerated() {
          cumulative += count
          let edge = index < Series.edges.count ? "\(Series.edges[index])" : "+Inf"
          text += "\(name)_bucket{\(labels)\(comma)le=\"\(edge)\"} \(cumulative)\n"
        }
        let braces = labels.isEmpty ? "" : "{\(labels)}"
        text += "\(name)_sum\(braces) \(series.sum)\n\(name)_count\(braces) \(cumulative)\n"
      }
    }
    return text
  }
}
