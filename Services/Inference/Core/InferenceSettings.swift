package import ServiceKit

/// What inference can be told.
package enum InferenceSettings {
  package static let data = Setting(
    "inference.data", default: "data/inference", help: "Folder of the models that were fetched.")
  package static let trustedKeys = Setting(
    "inference.trusted-keys", default: "data/keys/signing.pub",
    help: "Public key whose models are run, or a folder of '*.pub' keys.")
  package static let models = Setting(
    "inference.models", default: 4, help: "Versions in memory at once; the least recently used goes first.",
    allowed: "between 1 and 64", where: { (1...64).contains($0) })
  package static let workers = Setting(
    "inference.workers", default: 2, help: "Batches that run at once; each keeps one core busy.",
    allowed: "between 1 and 256", where: { (1...256).contains($0) })
  package static let largestBatch = Setting(
    "inference.largest-batch", default: 8, help: "Observations that go through the network together.",
    allowed: "between 1 and 256", where: { (1...256).contains($0) })
  package static let windowMicros = Setting(
    "inference.window-micros", default: 300,
    help: "Microseconds that a batch waits for other robots, where more than one is connected.",
    allowed: "between 0 and 100000", where: { (0...100_000).contains($0) })
  package static let waiting = Setting(
    "inference.waiting", default: 256, help: "Observations that may wait; more are refused.",
    allowed: "between 1 and 100000", where: { (1...100_000).contains($0) })

  package static let all: [any AnySetting] = [
    data, trustedKeys, models, workers, largestBatch, windowMicros, waiting, EndpointSettings.inferenceRPC,
    EndpointSettings.rolloutRPC,
  ]
}
