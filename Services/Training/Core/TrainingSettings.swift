package import ServiceKit

/// What can be configured about training.
package enum TrainingSettings {
  static let data = Setting(
    "training.data", default: "data/training", help: "Folder of jobs, models and the image cache.")
  static let key = Setting(
    "training.signing-key", default: "",
    help: "File of the key that signs models, made at the first start; empty for model.key in training.data.")
  static let threads = Setting(
    "training.threads", default: 2, help: "Threads of one optimisation.", allowed: "between 1 and 256",
    where: { (1...256).contains($0) })
  static let cacheMegabytes = Setting(
    "training.cache-megabytes", default: 8_192, help: "Disk space for the images of one dataset.",
    allowed: "between 1 and 10000000", where: { (1...10_000_000).contains($0) })

  package static let all: [any AnySetting] = [
    EndpointSettings.trainingRPC, EndpointSettings.trainingPublications, EndpointSettings.ingestRPC,
    EndpointSettings.rolloutRPC, data, key, threads, cacheMegabytes,
  ]

  /// Values of the settings that the core needs.
  package struct Values: Sendable {
    package var data: String
    package var key: String
    package var threads: Int
    package var cacheBytes: Int

    package init(data: String, key: String = "", threads: Int = 1, cacheBytes: Int = 1 << 30) {
      self.data = data
      self.key = key.isEmpty ? "\(data)/model.key" : key
      self.threads = threads
      self.cacheBytes = cacheBytes
    }

    package init(_ configuration: ServiceConfiguration) throws {
      self.init(
        data: try configuration(TrainingSettings.data), key: try configuration(TrainingSettings.key),
        threads: try configuration(TrainingSettings.threads),
        cacheBytes: try configuration(TrainingSettings.cacheMegabytes) << 20)
    }
  }
}
