import Foundation
import GRPCCore
import Schemas
import Synchronization
import TestSupport
import Testing

@testable import FleetCore

/// Training whose job waits for a disk, and is done once somebody has heard so.
private final class WaitingTraining: TrainingService.SimpleServiceProtocol {
  private let isDone = Mutex(false)

  private var job: TrainingJob {
    let state: TrainingState = self.isDone.withLock { $0 } ? .done : .loading
    return TrainingJob(
      jobID: "j1", progress: TrainingProgress(version: "v2", state: state),
      manifest: ModelManifest(version: "v2"))
  }

  func cancelJob(request: CancelJobRequest, context: ServerContext) async throws -> TrainingJob { self.job }
  func getJob(request: GetJobRequest, context: ServerContext) async throws -> TrainingJob { self.job }
  func listJobs(request: ListJobsRequest, context: ServerContext) async throws -> ListJobsResponse {
    ListJobsResponse(jobs: [self.job])
  }
  func startTraining(request: StartTrainingRequest, context: ServerContext) async throws -> TrainingJob {
    self.job
  }
  func watchJob(
    request: GetJobRequest, response: RPCWriter<TrainingProgress>, context: ServerContext
  ) async throws {
    let word = TrainingProgress(version: "v2", state: .loading, error: "It waits: the disk is full.")
    for _ in 1...3 { try await response.write(word) }
    self.isDone.withLock { $0 = true }
  }
}

@Suite("fleet train watch", .timeLimit(.minutes(5)))
struct TrainWatchTests {
  @Test func `who follows a job hears once what it waits for`() async throws {
    let fleet = try FakeFleet()
    let result = try await fleet.run(robots: [:], services: [WaitingTraining()]) { _ in
      try fleet.write(robots: [])
      return try await Program.run(
        Program.built("fleet"), ["train", "watch", "j1", "--data", fleet.folder.path])
    }
    #expect(result.output == "model v2 is registered\n" && result.status == 0, "\(result.errors)")
    let said = result.errors.split(separator: "\n").filter { $0.contains("It waits") }
    #expect(said == ["  training v2: It waits: the disk is full."])
  }
}
