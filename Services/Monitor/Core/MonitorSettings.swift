package import ServiceKit

/// What the monitor can be told.
package enum MonitorSettings {
  package static let data = Setting(
    "monitor.data", default: "data/monitor", help: "Folder of alerts and robots' health.")
  package static let httpToken = Setting(
    "monitor.http-token", default: "",
    help: "What a browser must show as ?token= or a bearer token; needed where monitor.http is not loopback.")
  package static let httpHosts = Setting(
    "monitor.http-hosts", default: [String](),
    help:
      "Names besides the bound address and localhost under which callers may ask for the page, with commas between."
  )
  package static let services = Setting(
    "monitor.services", default: ["ingest", "training", "inference", "rollout"],
    help: "Services of this fleet whose health is asked for; of: ingest, training, inference, rollout.")
  package static let probeMillis = Setting(
    "monitor.probe-milliseconds", default: 2_000,
    help: "Time between two questions about a service's health.",
    allowed: "between 10 and 600000", where: { (10...600_000).contains($0) })
  package static let failureLimit = Setting(
    "monitor.failure-limit", default: 5,
    help: "Failures in a row that are still fine; one more takes the robot out of the work.",
    allowed: "between 1 and 1000000", where: { (1...1_000_000).contains($0) })
  package static let offlineSeconds = Setting(
    "monitor.offline-seconds", default: 5.0, help: "Time without a heartbeat after which a robot is offline.",
    allowed: "between 0.1 and 86400", where: { (0.1...86_400).contains($0) })
  package static let spoolLimit = Setting(
    "monitor.spool-limit", default: 50, help: "Trials in a robot's spool from which on an alert is raised.",
    allowed: "between 1 and 1000000", where: { (1...1_000_000).contains($0) })
  /// The bound is loose, because the baseline is taken at the low end of its interval: in simulations of 150 trials
  /// 0.05 gave 1.3 % of false alarms at most, and found a bad release with a fifth to a third fewer failures than 0.01.
  package static let regressionAlpha = Setting(
    "monitor.regression-alpha", default: 0.05,
    help: "Upper bound on the probability of a false alarm over the whole life of a guarded release.",
    allowed: "between 0.000001 and 0.5", where: { (0.000_001...0.5).contains($0) })
  package static let regressionTolerance = Setting(
    "monitor.regression-tolerance", default: 0.05, help: "Loss of success rate that is tolerated.",
    allowed: "between 0 and 0.9", where: { (0...0.9).contains($0) })
  package static let pollMillis = Setting(
    "monitor.poll-milliseconds", default: 1_000,
    help: "Time between two looks at heartbeats and watched releases.",
    allowed: "between 10 and 60000", where: { (10...60_000).contains($0) })

  package static let all: [any AnySetting] = [
    data, httpToken, httpHosts, services, probeMillis, failureLimit, offlineSeconds, spoolLimit,
    regressionAlpha, regressionTolerance,
    pollMillis, EndpointSettings.monitorRPC, EndpointSettings.monitorTelemetry,
    EndpointSettings.monitorPublications, EndpointSettings.monitorHTTP, EndpointSettings.ingestRPC,
    EndpointSettings.ingestPublications, EndpointSettings.trainingRPC, EndpointSettings.inferenceRPC,
    EndpointSettings.rolloutRPC,
  ]
}
