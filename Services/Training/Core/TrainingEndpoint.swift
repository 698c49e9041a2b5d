internal import Policy
package import GRPCCore
package import Schemas

/// TrainingService over the jobs.
package struct TrainingEndpoint: TrainingService.SimpleServiceProtocol {
  private let jobs: TrainingJobs

  package init(_ jobs: TrainingJobs) { self.jobs = jobs }

  package func startTraining(
    request: StartTrainingRequest, context: ServerContext
  ) async throws -> TrainingJob {
    do {
      return try await self.jobs.start(request)
    } catch let error as PolicyError {
      throw RPCError(code: .invalidArgument, message: error.message, cause: error)
    }
  }

  package func getJob(request: GetJobRequest, context: ServerContext) async throws -> TrainingJob {
    try await self.jobs.job(request.jobID)
  }

  package func listJobs(request: ListJobsRequest, context: ServerContext) async throws -> ListJobsResponse {
    ListJobsResponse(jobs: await self.jobs.list())
  }

  package func cancelJob(request: CancelJobRequest, context: ServerContext) async throws -> TrainingJob {
    try await self.jobs.cancel(request.jobID)
  }

  package func watchJob(
    request: GetJobRequest, response: RPCWriter<TrainingProgress>, context: ServerContext
  ) async throws {
    for await progress in try await self.jobs.watch(request.jobID) { try await response.write(progress) }
  }
}
