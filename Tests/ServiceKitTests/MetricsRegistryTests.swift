import Testing

@testable import ServiceKit

@Suite("MetricsRegistry")
struct MetricsRegistryTests {
  @Test func `renders counters, gauges and histograms as Prometheus text`() {
    let metrics = MetricsRegistry()
    metrics.increment("trials_total", labels: ["robot": "a\"b"], help: "Trials.")
    metrics.increment("trials_total", by: 2, labels: ["robot": "a\"b"])
    metrics.set("free_bytes", to: 12)
    metrics.observe("answer_seconds", 0.003)
    metrics.observe("answer_seconds", 500)
    let text = metrics.renderPrometheus()
    #expect(text.contains("# HELP fleetloop_trials_total Trials.\n# TYPE fleetloop_trials_total counter\n"))
    #expect(text.contains(#"fleetloop_trials_total{robot="a\"b"} 3.0"#))
    #expect(text.contains("fleetloop_free_bytes 12.0"))
    #expect(text.contains(#"fleetloop_answer_seconds_bucket{le="0.002"} 0"#))
    #expect(text.contains(#"fleetloop_answer_seconds_bucket{le="0.005"} 1"#))
    #expect(text.contains(#"fleetloop_answer_seconds_bucket{le="+Inf"} 2"#))
    #expect(text.contains("fleetloop_answer_seconds_count 2"))
  }

  @Test func `quantiles are upper bucket edges`() throws {
    let metrics = MetricsRegistry()
    #expect(metrics.quantile(0.5, of: "t") == nil)
    for _ in 0..<98 { metrics.observe("t", 0.0015) }
    for _ in 0..<2 { metrics.observe("t", 0.15) }
    #expect(metrics.quantile(0.5, of: "t") == 0.002)
    #expect(metrics.quantile(0.99, of: "t") == 0.2)
  }

  @Test func `label sets are bounded`() {
    let metrics = MetricsRegistry()
    for index in 0..<(MetricsRegistry.maximumSeries + 50) {
      metrics.increment("x", labels: ["id": "\(index)"])
    }
    #expect(metrics.renderPrometheus().contains(#"fleetloop_x{overflow="true"} 50.0"#))
  }

  @Test func `a counter never falls`() {
    let metrics = MetricsRegistry()
    metrics.increment("c", by: 5)
    metrics.increment("c", by: -3)
    #expect(metrics.value("c") == 5)
  }
}
