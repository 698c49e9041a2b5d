import Foundation
import Schemas
import ServiceKit

/// Has training make models and rollout bring them to robots, and waits for both.
struct ModelWork: Sendable {
  /// Longest time that one training may take.
  static let longestTraining: Duration = .seconds(1_200)

  let clients: FleetClients
  let progress: ProgressReport

  /// - Returns: the finished model's manifest.
  /// - Throws: ``FleetError`` `.childFailed` with training's reason, `.timedOut`.
  func train(_ request: StartTrainingRequest) async throws -> ModelManifest {
    let job = try await self.clients.training.startTraining(request, options: .within(.seconds(30)))
    let version = request.version
    let limit = ContinuousClock.now + Self.longestTraining
    var current = job
    while current.progress?.state != .done {
      let progress = current.progress ?? TrainingProgress()
      if progress.state == .failed || progress.state == .cancelled {
        throw FleetError(.childFailed, "Training \(version) ended as \(progress.state): \(progress.error)")
      }
      guard ContinuousClock.now < limit else {
        throw FleetError(.timedOut, "Training \(version) takes over \(Self.longestTraining).")
      }
      self.show(progress, version)
      try await Task.sleep(for: .seconds(1))
      current = try await self.clients.training.getJob(
        GetJobRequest(jobID: job.jobID), options: .within(.seconds(30)))
    }
    let manifest = current.manifest ?? ModelManifest()
    self.progress.line(
      String(
        format: "  %@: %d parameters, %d steps in %.0f s (%.0f samples/s), validation loss %.4f", version,
        Int(manifest.parameters), Int(manifest.optimizerSteps), manifest.trainSeconds,
        manifest.samplesPerSecond, manifest.metrics["validation_loss"] ?? .nan))
    return manifest
  }

  private func show(_ progress: TrainingProgress, _ version: String) {
    guard progress.step > 0 else { return }
    let validation =
      progress.validationLoss.isFinite ? String(format: " validation %.4f", progress.validationLoss) : ""
    self.progress.update(
      "training \(version)", done: progress.elapsedSeconds,
      total: progress.elapsedSeconds + progress.remainingSeconds,
      detail: String(
        format: "step %d loss %.4f%@, %.0f samples/s", Int(progress.step), progress.trainLoss, validation,
        progress.samplesPerSecond))
  }

  /// Brings a version to robots and waits until each reports it.
  /// - Throws: ``FleetError`` `.timedOut`.
  @discardableResult
  func release(
    _ version: String, to robots: [String], guarded: Bool = false, reason: String
  ) async throws -> Release {
    let release = try await self.clients.rollout.createRelease(
      CreateReleaseRequest(
        version: version, robots: robots, reason: reason, guarded: guarded, requestID: UUID().uuidString),
      options: .within(.seconds(30)))
    try await Deadline.wait(for: "\(version) on \(robots.joined(separator: ", "))", limit: .seconds(90)) {
      let now = try await self.clients.rollout.getRelease(
        GetReleaseRequest(releaseID: release.releaseID), options: .within(.seconds(10)))
      return now.state != .rollingOut
    }
    return release
  }
}
