import Testing

@testable import MonitorCore

@Suite("MetricsPage")
struct MetricsPageTests {
  private static let ingest = """
    # HELP fleetloop_stored_total Trials.
    # TYPE fleetloop_stored_total counter
    fleetloop_stored_total 3.0
    fleetloop_stored_total{robot="a"} 2.0
    # TYPE fleetloop_seconds histogram
    fleetloop_seconds_bucket{le="+Inf"} 4
    fleetloop_seconds_sum 0.5
    fleetloop_seconds_count 4

    """

  @Test func `series of other services carry their name, each family has one head`() {
    let own = "# TYPE fleetloop_stored_total counter\nfleetloop_stored_total 7.0\n"
    let page = MetricsPage(
      own: own,
      others: [
        ServiceMetrics(service: "ingest", text: Self.ingest), ServiceMetrics(service: "training", text: nil),
      ])
    #expect(
      page.text == """
        # TYPE fleetloop_seconds histogram
        fleetloop_seconds_bucket{service="ingest",le="+Inf"} 4
        fleetloop_seconds_sum{service="ingest"} 0.5
        fleetloop_seconds_count{service="ingest"} 4
        # TYPE fleetloop_stored_total counter
        # HELP fleetloop_stored_total Trials.
        fleetloop_stored_total 7.0
        fleetloop_stored_total{service="ingest"} 3.0
        fleetloop_stored_total{service="ingest",robot="a"} 2.0
        # HELP fleetloop_up Whether the service answered when it was asked last.
        # TYPE fleetloop_up gauge
        fleetloop_up{service="ingest"} 1
        fleetloop_up{service="training"} 0

        """)
  }

  @Test func `without others the page is the monitor's own`() {
    #expect(
      MetricsPage(own: Self.ingest, others: []).text.contains("fleetloop_stored_total{robot=\"a\"} 2.0"))
    #expect(MetricsPage(own: "", others: []).text.isEmpty)
  }

  @Test func `lines of no known form do no harm`() {
    let text = MetricsPage(
      own: "# just a comment\nx 1\n{\n \n", others: [ServiceMetrics(service: "s", text: "y\n#\n# TYPE\n")]
    ).text
    #expect(text.contains("x 1\n"))
  }
}
