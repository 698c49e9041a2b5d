import Policy
import Schemas
import Synchronization

/// One version in memory, and how it does.
final class ServedModel: Sendable {
  let manifest: ModelManifest
  /// SHA-256 of the manifest.
  let sha256: [UInt8]
  let engine: InferenceEngine
  private let latency = Mutex(LatencyWindow())

  init(manifest: ModelManifest, sha256: [UInt8], engine: InferenceEngine) {
    self.manifest = manifest
    self.sha256 = sha256
    self.engine = engine
  }

  var version: String { self.manifest.version }

  /// - Parameter now: Unix time in nanoseconds.
  func hasExpired(now: Int64) -> Bool {
    self.manifest.expiresUnixNanos != 0 && self.manifest.expiresUnixNanos <= now
  }

  /// Counts an answer.
  func answered(micros: UInt64) { self.latency.withLock { $0.add(micros: micros) } }

  var summary: LoadedModel {
    let latency = self.latency.withLock { $0 }
    return LoadedModel(
      version: self.version, tasks: self.manifest.tasks, requests: latency.count,
      p50Micros: latency.quantile(0.5), p99Micros: latency.quantile(0.99), manifestSha256: self.sha256)
  }
}
