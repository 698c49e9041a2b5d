import Foundation
import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import FleetCore

/// Training that has one job, which ended.
private struct FakeTraining: TrainingService.SimpleServiceProtocol {
  let job: TrainingJob

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
  ) async throws {}
}

@Suite("fleet train cancel", .timeLimit(.minutes(5)))
struct TrainCancelTests {
  private func cancel(_ progress: TrainingProgress) async throws -> Program.Result {
    let fleet = try FakeFleet()
    let job = TrainingJob(jobID: "j1", progress: progress)
    return try await fleet.run(robots: [:], services: [FakeTraining(job: job)]) { _ in
      try fleet.write(robots: [])
      return try await Program.run(
        Program.built("fleet"), ["train", "cancel", "j1", "--data", fleet.folder.path])
    }
  }

  @Test func `a job that is cancelled for sure`() async throws {
    let result = try await self.cancel(TrainingProgress(state: .cancelled, error: "The job was cancelled."))
    #expect(result.output == "j1 is cancelled\n" && result.status == 0, "\(result.errors)")
  }

  @Test func `a job that ended before`() async throws {
    let result = try await self.cancel(TrainingProgress(state: .done))
    #expect(result.output == "j1 was done already\n" && result.status == 0, "\(result.errors)")
  }

  @Test func `a job whose model the registry may have is no success`() async throws {
    let doubt = "The registry, which may have its model, does not answer."
    let result = try await self.cancel(
      TrainingProgress(state: .cancelled, error: "The job was cancelled. \(doubt)"))
    #expect(result.output == "j1 is cancelled: \(doubt)\n", "\(result.errors)")
    #expect(result.status == 1)
  }
}
