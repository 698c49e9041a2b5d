package import ArgumentParser
import Schemas
import ServiceKit

/// `fleet train`.
package struct Train: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Train a model from stored trials, or list training jobs.",
    subcommands: [Start.self, List.self, Cancel.self],
    defaultSubcommand: List.self)
  package init() {}

  struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Start a training job and follow it until it ends.")
    @OptionGroup var options: FleetOptions
    @Option(help: "Version of the new model.") var version: String
    @Option(help: "Model to start from; none trains from nothing.") var parent: String?
    @Option(help: "Tasks to learn; repeat for more. Default: every task with trials.") var task: [String] = []
    @Option(help: "Add these tasks to the parent with a frozen encoder; repeat for more.") var newTask:
      [String] = []
    @Option(help: "Bound on optimisation, in seconds.") var seconds: Double = 300
    @Option(help: "Pixels of the network's image.") var imageSize: UInt32 = 224

    func validate() throws {
      guard self.newTask.isEmpty || self.parent != nil else {
        throw ValidationError("--new-task needs --parent.")
      }
    }

    func run() async throws {
      var request = StartTrainingRequest(
        version: self.version, parent: self.parent ?? "", newTasks: self.newTask)
      request.kind = self.parent == nil ? .pretrain : self.newTask.isEmpty ? .update : .finetune
      request.query = TrialQuery(
        tasks: self.task + (self.task.isEmpty ? [] : self.newTask), trainableOnly: true)
      request.policy = PolicyConfiguration(imageSize: self.imageSize)
      request.configuration = TrainingConfiguration(
        replayShare: self.newTask.isEmpty ? 0 : 0.3, freezeEncoder: !self.newTask.isEmpty,
        maxSeconds: self.seconds)
      let start = request
      let progress = ProgressReport()
      try await self.options.withClients { clients in
        let runner = LoopRunner(plan: .full, clients: clients, progress: progress)
        try await runner.train(start)
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Training jobs.")
    @OptionGroup var options: FleetOptions

    struct Row: Encodable {
      var job, version, state, error: String
      var step, totalSteps: UInt64
      var trainLoss, validationLoss: Double
    }

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.training.listJobs(.init(), options: .within(.seconds(10))).jobs
      }
      .map { job in
        let progress = job.progress ?? TrainingProgress()
        return Row(
          job: job.jobID, version: job.request?.version ?? "", state: "\(progress.state)",
          error: progress.error,
          step: progress.step, totalSteps: progress.totalSteps, trainLoss: progress.trainLoss,
          validationLoss: progress.validationLoss)
      }
      Listing(
        columns: ["job", "version", "state", "step", "train loss", "validation loss", "error"],
        rows: rows.map {
          [
            $0.job, $0.version, $0.state, "\($0.step)/\($0.totalSteps)", "\($0.trainLoss)",
            "\($0.validationLoss)", $0.error,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }
  }

  struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Cancel a training job.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the job.") var job: String

    func run() async throws {
      let request = CancelJobRequest(jobID: self.job)
      _ = try await self.options.withClients {
        try await $0.training.cancelJob(request, options: .within(.seconds(10)))
      }
      print("\(self.job) is cancelled")
    }
  }
}
