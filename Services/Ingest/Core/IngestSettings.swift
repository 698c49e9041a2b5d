package import ServiceKit

/// What ingest can be told.
package enum IngestSettings {
  package static let data = Setting(
    "ingest.data", default: "data/ingest", help: "Folder of the trial log and its catalog.")
  package static let fileMegabytes = Setting(
    "ingest.file-megabytes", default: 256, help: "Size at which a log file is sealed.",
    allowed: "between 1 and 16384", where: { (1...16_384).contains($0) })
  package static let openTrials = Setting(
    "ingest.open-trials", default: 512, help: "Trials that may be arriving at once.",
    allowed: "between 1 and 100000", where: { (1...100_000).contains($0) })
  package static let quietSeconds = Setting(
    "ingest.quiet-seconds", default: 5, help: "Silence after which the rest of a trial is asked for.",
    allowed: "between 1 and 3600", where: { (1...3_600).contains($0) })

  package static let all: [any AnySetting] = [
    data, fileMegabytes, openTrials, quietSeconds, EndpointSettings.ingestRPC, EndpointSettings.ingestTrials,
    EndpointSettings.ingestPublications,
  ]
}
