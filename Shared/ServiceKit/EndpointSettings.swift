/// Where the services of a fleet meet. Each is a setting of the service that binds it and, under the same key, of its clients.
public enum EndpointSettings {
  public static let ingestRPC = Setting(
    "ingest.rpc", default: "tcp://127.0.0.1:7401", help: "Where ingest answers calls.")
  public static let ingestTrials = Setting(
    "ingest.trials", default: "tcp://127.0.0.1:7402", help: "Where ingest hears trial streams.")
  public static let ingestPublications = Setting(
    "ingest.publications", default: "tcp://127.0.0.1:7403",
    help: "Where ingest publishes acknowledgements and stored outcomes.")
  public static let trainingRPC = Setting(
    "training.rpc", default: "tcp://127.0.0.1:7411", help: "Where training answers calls.")
  public static let trainingPublications = Setting(
    "training.publications", default: "tcp://127.0.0.1:7412", help: "Where training publishes progress.")
  public static let inferenceRPC = Setting(
    "inference.rpc", default: "tcp://127.0.0.1:7421", help: "Where inference answers calls.")
  public static let monitorRPC = Setting(
    "monitor.rpc", default: "tcp://127.0.0.1:7431", help: "Where the monitor answers calls.")
  public static let monitorTelemetry = Setting(
    "monitor.telemetry", default: "tcp://127.0.0.1:7432", help: "Where the monitor hears telemetry.")
  public static let monitorPublications = Setting(
    "monitor.publications", default: "tcp://127.0.0.1:7433",
    help: "Where the monitor publishes alerts and health directives.")
  public static let monitorHTTP = Setting(
    "monitor.http", default: "127.0.0.1:7480",
    help: "Host and port of the status page, /metrics and /healthz; port 0 for a free one.")
  public static let rolloutRPC = Setting(
    "rollout.rpc", default: "tcp://127.0.0.1:7441", help: "Where rollout answers calls.")
  public static let rolloutPublications = Setting(
    "rollout.publications", default: "tcp://127.0.0.1:7442", help: "Where rollout publishes desired versions."
  )
  public static let robotRPC = Setting(
    "robot.rpc", default: "tcp://127.0.0.1:7451", help: "Where a robot's agent answers calls.")
}
