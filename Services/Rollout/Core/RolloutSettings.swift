package import ServiceKit

/// What rollout can be told.
package enum RolloutSettings {
  package static let data = Setting(
    "rollout.data", default: "data/rollout", help: "Folder of the registry and the state.")
  package static let trustedKeys = Setting(
    "rollout.trusted-keys", default: "data/keys/signing.pub",
    help: "Public key file, or folder of '*.pub' files, of those whose models are registered.")
  package static let publishMillis = Setting(
    "rollout.publish-milliseconds", default: 1_000,
    help: "Time between two publications for a robot that has not reported yet.",
    allowed: "between 10 and 3600000", where: { (10...3_600_000).contains($0) })
  package static let pollMillis = Setting(
    "rollout.poll-milliseconds", default: 1_000,
    help: "Time between two looks at experiments and at the monitor's alerts.",
    allowed: "between 10 and 3600000", where: { (10...3_600_000).contains($0) })
  package static let reachableSeconds = Setting(
    "rollout.reachable-seconds", default: 15.0,
    help: "Time without a report after which a rollback does not wait for a robot.",
    allowed: "between 0.1 and 86400", where: { (0.1...86_400).contains($0) })

  package static let all: [any AnySetting] = [
    data, trustedKeys, publishMillis, pollMillis, reachableSeconds, EndpointSettings.rolloutRPC,
    EndpointSettings.rolloutPublications, EndpointSettings.ingestRPC, EndpointSettings.monitorRPC,
    EndpointSettings.monitorPublications,
  ]
}
