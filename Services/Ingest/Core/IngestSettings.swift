package import ServiceKit

/// What ingest can be told.
package enum IngestSettings {
  package static let data = Setting(
    "ingest.data", default: "data/ingest", help: "Folder of the trial log and its catalog.")
  package static let fileMegabytes = Setting(
    "ingest.file-megabytes", default: 256, help: "Size at which a log file is sealed.",
    allowed: "between 1 and 16384", where: { (1...16_384).contains($0) })
  package static let openTrials = Setting(
    "ingest.open-trials", default: 512,
    help: "Trials of all robots that may arrive, be checked or wait for the disk at once.",
    allowed: "between 1 and 100000", where: { (1...100_000).contains($0) })
  package static let heldMegabytes = Setting(
    "ingest.held-megabytes", default: 1_024,
    help: "Memory that these trials may take; a quarter is kept for robots that have little here.",
    allowed: "between 512 and 1048576", where: { (512...1_048_576).contains($0) })
  package static let robotTrials = Setting(
    "ingest.robot-trials", default: 64,
    help: "Trials of one robot that may be here at once; fewer while others have many.",
    allowed: "between 1 and 100000", where: { (1...100_000).contains($0) })
  package static let robotMegabytes = Setting(
    "ingest.robot-megabytes", default: 256,
    help: "Memory that one robot's trials may take; less while others take much.",
    allowed: "between 192 and 1048576", where: { (192...1_048_576).contains($0) })
  package static let quietSeconds = Setting(
    "ingest.quiet-seconds", default: 5, help: "Silence after which the rest of a trial is asked for.",
    allowed: "between 1 and 3600", where: { (1...3_600).contains($0) })

  /// What a robot and all of them may have here.
  package static func shares(of settings: ServiceConfiguration) throws -> RobotShares.Limits {
    var shares = RobotShares.Limits()
    shares.trials = try settings(Self.openTrials)
    shares.bytes = try settings(Self.heldMegabytes) << 20
    shares.robotTrials = try settings(Self.robotTrials)
    shares.robotBytes = try settings(Self.robotMegabytes) << 20
    return shares
  }

  package static let all: [any AnySetting] = [
    data, fileMegabytes, openTrials, heldMegabytes, robotTrials, robotMegabytes, quietSeconds,
    EndpointSettings.ingestRPC, EndpointSettings.ingestTrials, EndpointSettings.ingestPublications,
  ]
}
