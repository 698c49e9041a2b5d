import Bus
import GRPCCore
import Schemas

/// MetricsService: this process's metrics, the bus's counters among them, and which of its parts are broken.
struct MetricsEndpoint: MetricsService.SimpleServiceProtocol {
  let registry: MetricsRegistry
  let vitals: Vitals

  func getMetrics(request: GetMetricsRequest, context: ServerContext) async throws -> GetMetricsResponse {
    GetMetricsResponse(
      prometheusText: self.registry.renderPrometheus() + BusMetricsText.render(),
      brokenParts: self.vitals.broken)
  }
}

/// The bus's counters as Prometheus text.
public enum BusMetricsText {
  public static func render() -> String {
    BusMetrics.snapshot().sorted { $0.key < $1.key }.map { name, value in
      "# TYPE fleetloop_\(name) counter\nfleetloop_\(name) \(value)\n"
    }.joined()
  }
}
