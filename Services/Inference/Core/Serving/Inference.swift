package import Logging
import Policy
import Schemas
package import ServiceKit
import ServiceLifecycle
import Synchronization

/// Answers observations within their time, with the version that they ask for.
package final class Inference: Service {
  /// Longest budget that is believed; a longer one is no limit.
  private static let longestBudget: Duration = .seconds(3_600)

  let models: ModelCache
  let batcher: Batcher
  /// Requests that are here and have no answer yet.
  let held = HeldRequests()
  private let metrics: MetricsRegistry
  private let logger: Logger
  private let counts = Mutex((requests: UInt64(0), expired: UInt64(0), refused: UInt64(0)))

  package init(models: ModelCache, batcher: Batcher, metrics: MetricsRegistry, logger: Logger) {
    self.models = models
    self.batcher = batcher
    self.metrics = metrics
    self.logger = logger
  }

  /// Keeps the quantiles among the metrics, and what is said of the disk, current until the service ends.
  package func run() async throws {
    try? await cancelWhenGracefulShutdown {
      while true {
        self.publishQuantiles()
        await self.models.disk.probe()
        try await Task.sleep(for: .seconds(5))
      }
    }
  }

  /// - Parameters:
  ///   - caller: whose requests are counted together.
  ///   - arrival: when the request came; its budget counts from then.
  /// - Throws: ``InferenceError``.
  func act(
    _ request: ActRequest, of caller: String, arrival: ContinuousClock.Instant
  ) async throws(InferenceError) -> ActResponse {
    self.counts.withLock { $0.requests += 1 }
    do {
      let bytes = Self.bytes(of: request)
      try self.held.take(bytes, of: caller)
      defer { self.held.giveBack(bytes, of: caller) }
      guard let observation = request.observation else {
        throw InferenceError(.invalid, "A request has no observation.")
      }
      let deadline = Self.deadline(of: request, arrival: arrival)
      if let deadline, .now >= deadline {
        throw InferenceError(.expired, "The time for the answer was over when the request was read.")
      }
      let name = try ModelName(request.modelVersion, sha256: request.manifestSha256)
      let model = try await self.models.model(name, before: deadline)
      // What it cannot take waits for no worker.
      try model.engine.requireValid(observation)
      let answer = try await self.batcher.act(observation, model: model, of: caller, before: deadline)
      let micros = Self.micros(.now - arrival)
      model.answered(micros: micros)
      self.metrics.observe(
        "inference_service_seconds", Double(micros) / 1e6, labels: ["version": model.version],
        help: "Time from a request's arrival to its answer.")
      return ActResponse(
        requestID: request.requestID, actions: answer.actions, modelVersion: model.version,
        serviceMicros: micros, batchSize: UInt32(answer.batchSize))
    } catch {
      let error = InferenceError(error)
      self.count(error)
      throw error
    }
  }

  /// Loads a version; empty for the newest.
  /// - Parameter sha256: of the content that it must have; empty for any.
  func prepare(_ version: String, sha256: [UInt8] = []) async throws(InferenceError) -> LoadedModel {
    do {
      let name = try ModelName(version, sha256: sha256)
      let model = try await self.models.model(name, before: .now + ModelSource.transferTimeout)
      self.logger.info("model is ready", metadata: ["model.version": "\(model.version)"])
      return model.summary
    } catch {
      let error = InferenceError(error)
      self.logger.warning(
        "model cannot be loaded",
        metadata: [
          "model.version": "\(version.prefix(64))", "error.type": "\(error.code.rawValue)",
          "error.message": "\(error.message)",
        ])
      throw error
    }
  }

  var status: InferenceStatus {
    let counts = self.counts.withLock { $0 }
    return InferenceStatus(
      models: self.models.models.map(\.summary), requests: counts.requests, expired: counts.expired,
      refused: counts.refused, refusedModels: self.models.refused)
  }

  private func count(_ error: InferenceError) {
    self.counts.withLock { counts in
      if error.code == .expired { counts.expired += 1 } else { counts.refused += 1 }
    }
    self.metrics.increment(
      "inference_errors_total", labels: ["code": error.code.rawValue],
      help: "Requests without an action, by reason.")
  }

  private func publishQuantiles() {
    for model in self.models.models.map(\.summary) where model.requests > 0 {
      self.metrics.set(
        "inference_p50_seconds", to: model.p50Micros / 1e6, labels: ["version": model.version],
        help: "Median service time of the newest 1000 answers.")
      self.metrics.set(
        "inference_p99_seconds", to: model.p99Micros / 1e6, labels: ["version": model.version],
        help: "99th percentile of the service time of the newest 1000 answers.")
    }
  }

  /// What a request holds. The picture is counted beside the rest: encoding would copy it.
  private static func bytes(of request: ActRequest) -> Int {
    var rest = request
    rest.observation?.image = []
    rest.observation?.jointAngles = []
    let joints = (request.observation?.jointAngles.count ?? 0) * MemoryLayout<Float>.size
    return (request.observation?.image.count ?? 0) + joints + rest.serializedSize
  }

  private static func deadline(
    of request: ActRequest, arrival: ContinuousClock.Instant
  ) -> ContinuousClock.Instant? {
    guard request.budgetMicros > 0 else { return nil }
    let budget = Duration.microseconds(Int64(clamping: min(request.budgetMicros, 1 << 40)))
    return budget <= Self.longestBudget ? arrival + budget : nil
  }

  private static func micros(_ duration: Duration) -> UInt64 {
    let (seconds, attoseconds) = duration.components
    return UInt64(max(0, seconds)) * 1_000_000 + UInt64(max(0, attoseconds / 1_000_000_000_000))
  }
}
