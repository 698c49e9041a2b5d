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
  static let missingPercent = Setting(
    "training.missing-percent", default: 1,
    help:
      "Share of a dataset's trials that may be lost to damage before a job fails; one may in any case, unless 0.",
    allowed: "between 0 and 100", where: { (0...100).contains($0) })
  static let modelDays = Setting(
    "training.model-days", default: 90,
    help: "Days after which nobody runs a new model any more; 0 for never.", allowed: "between 0 and 36500",
    where: { (0...36_500).contains($0) })

  package static let all: [any AnySetting] = [
    EndpointSettings.trainingRPC, EndpointSettings.trainingPublications, EndpointSettings.ingestRPC,
    EndpointSettings.rolloutRPC, data, key, threads, cacheMegabytes, missingPercent, modelDays,
  ]

  /// Values of the settings that the core needs.
  package struct Values: Sendable {
    package var data: String
    package var key: String
    package var threads: Int
    package var cacheBytes: Int
    package var missingPercent: Int
    /// Days that a model may be run; 0 for ever.
    package var modelDays: Int
    /// Before ingest is asked again for a set of trials that it has lost.
    package var renewalPause: Duration = .seconds(600)

    package init(
      data: String, key: String = "", threads: Int = 1, cacheBytes: Int = 1 << 30, missingPercent: Int = 1,
      modelDays: Int = 90
    ) {
      self.data = data
      self.key = key.isEmpty ? "\(data)/model.key" : key
      self.threads = threads
      self.cacheBytes = cacheBytes
      self.missingPercent = missingPercent
      self.modelDays = modelDays
    }

    package init(_ configuration: ServiceConfiguration) throws {
      self.init(
        data: try configuration(TrainingSettings.data), key: try configuration(TrainingSettings.key),
        threads: try configuration(TrainingSettings.threads),
        cacheBytes: try configuration(TrainingSettings.cacheMegabytes) << 20,
        missingPercent: try configuration(TrainingSettings.missingPercent),
        modelDays: try configuration(TrainingSettings.modelDays))
    }
  }
}
