import Foundation
import GRPCCore
import Schemas
import ServiceKit

/// Has training make models and rollout bring them to robots, and waits for both.
struct ModelWork: Sendable {
  /// How long one stream of progress is listened to.
  static let longestStream: Duration = .seconds(15)

  let clients: FleetClients
  let progress: ProgressReport
  /// Longest time that one training may take.
  var longestTraining: Duration = .seconds(1_200)

  private var patience: Patience { Patience(progress: self.progress) }

  /// - Returns: the finished model's manifest.
  /// - Throws: ``FleetError`` `.childFailed` with training's reason, `.timedOut`.
  func train(_ request: StartTrainingRequest) async throws -> ModelManifest {
    let job = try await self.patience.ask("training") {
      try await self.clients.training.startTraining(request, options: .within(.seconds(30)))
    }
    return try await self.finish(job.jobID)
  }

  /// Follows a job until it made its model, and says what it made.
  /// - Throws: as ``train(_:)``.
  func finish(_ id: String) async throws -> ModelManifest {
    let current = try await self.follow(id)
    let progress = current.progress ?? TrainingProgress()
    let version = progress.version
    guard progress.state == .done else {
      throw FleetError(.childFailed, "Training \(version) ended as \(progress.state): \(progress.error)")
    }
    let manifest = current.manifest ?? ModelManifest()
    self.progress.line(
      String(
        format: "  %@: %d parameters, %d steps in %.0f s (%.0f samples/s), validation loss %.4f", version,
        Int(manifest.parameters), Int(manifest.optimizerSteps), manifest.trainSeconds,
        manifest.samplesPerSecond, manifest.metrics["validation_loss"] ?? .nan))
    return manifest
  }

  /// Shows a job's progress as it comes until the job ends, over restarts of training.
  /// - Throws: ``FleetError`` `.timedOut` where that takes longer than any training may.
  func follow(_ id: String) async throws -> TrainingJob {
    let limit = ContinuousClock.now + self.longestTraining
    while true {
      let job = try await self.patience.ask("training") {
        try await self.clients.training.getJob(GetJobRequest(jobID: id), options: .within(.seconds(5)))
      }
      let progress = job.progress ?? TrainingProgress()
      if [.done, .failed, .cancelled].contains(progress.state) { return job }
      guard ContinuousClock.now < limit else {
        throw FleetError(
          .timedOut, "Training of \(progress.version) has not ended within \(self.longestTraining).")
      }
      do {
        // A stream that says nothing may belong to a training that hangs: the job is asked for itself now and then.
        try await self.clients.training.watchJob(
          GetJobRequest(jobID: id), options: .within(Self.longestStream)
        ) { response in
          for try await progress in response.messages { self.show(progress, progress.version) }
        }
      } catch let error as RPCError where error.isAway || error.code == .cancelled {
        try Task.checkCancellation()
      }
      // A stream that ends at once must not be asked for again and again.
      try await Task.sleep(for: .milliseconds(200))
    }
  }

  private func show(_ progress: TrainingProgress, _ version: String) {
    let isOver = [.done, .failed, .cancelled].contains(progress.state)
    self.progress.waits(isOver || progress.error.isEmpty ? "" : "training \(version): \(progress.error)")
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
    let request = CreateReleaseRequest(
      version: version, robots: robots, reason: reason, guarded: guarded, requestID: UUID().uuidString)
    let release = try await self.patience.ask("rollout") {
      try await self.clients.rollout.createRelease(request, options: .within(.seconds(30)))
    }
    try await Deadline.wait(for: "\(version) on \(robots.joined(separator: ", "))", limit: .seconds(90)) {
      let now = try await self.patience.ask("rollout") {
        try await self.clients.rollout.getRelease(
          GetReleaseRequest(releaseID: release.releaseID), options: .within(.seconds(5)))
      }
      return now.state != .rollingOut
    }
    return release
  }
}
