package import ArgumentParser
import Foundation
import Schemas
import ServiceKit
import Synchronization

/// `fleet train`.
package struct Train: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Train a model from stored trials, or list training jobs.",
    subcommands: [Start.self, List.self, Watch.self, Cancel.self],
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

    @Flag(help: "Do not wait for the job's end.") var detach = false

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
      let options = self.options
      let detach = self.detach
      let started = Mutex<String?>(nil)
      try await options.withClients { clients in
        try await Following.run {
          started.withLock { $0 }.map { Train.howToEnd($0, options) }
            ?? Following.unanswered("a job for \(start.version)", "fleet train list", options)
        } _: {
          let job = try await clients.training.startTraining(start, options: .within(.seconds(30)))
          started.withLock { $0 = job.jobID }
          guard !detach else {
            return try Listing.show(
              "\(job.jobID) is queued. \(Train.howToEnd(job.jobID, options))",
              json: options.json ? Row(job) : nil)
          }
          try await Train.finish(job.jobID, clients, options)
        }
      }
    }
  }

  /// A job as listings show it.
  struct Row: Encodable, Sendable {
    var job, version, state, error: String
    var step, totalSteps: UInt64
    var trainLoss, validationLoss: Double

    init(_ job: TrainingJob) {
      let progress = job.progress ?? TrainingProgress()
      self.job = job.jobID
      self.version = job.request?.version ?? ""
      self.state = "\(progress.state)"
      self.error = progress.error
      self.step = progress.step
      self.totalSteps = progress.totalSteps
      self.trainLoss = progress.trainLoss
      self.validationLoss = progress.validationLoss
    }
  }

  static func howToEnd(_ job: String, _ options: FleetOptions) -> String {
    CommandHint.text(
      "Training goes on by itself.",
      [.init("End it", "fleet train cancel \(job)"), .init("Follow it", "fleet train watch \(job)")],
      again: options.again)
  }

  /// Waits for a job's model, and tells it.
  /// - Throws: ``FleetError`` where it made none.
  private static func finish(_ job: String, _ clients: FleetClients, _ options: FleetOptions) async throws {
    let models = ModelWork(clients: clients, progress: ProgressReport(), longestTraining: .seconds(86_400))
    let manifest = try await models.finish(job)
    try Listing.show(
      "model \(manifest.version) is registered",
      json: options.json ? ["job": job, "version": manifest.version] : nil)
  }

  struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Follow a training job until it ends.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the job.") var job: String

    func run() async throws {
      let (job, options) = (self.job, self.options)
      try await options.withClients { clients in
        try await Following.run {
          Train.howToEnd(job, options)
        } _: {
          try await Train.finish(job, clients, options)
        }
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Training jobs.")
    @OptionGroup var options: FleetOptions

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.training.listJobs(.init(), options: .within(.seconds(10))).jobs
      }
      .map(Row.init)
      try Listing(
        columns: ["job", "version", "state", "step", "train loss", "validation loss", "error"],
        rows: rows.map {
          [
            $0.job, $0.version, $0.state, "\($0.step)/\($0.totalSteps)", Self.loss($0.trainLoss),
            Self.loss($0.validationLoss), $0.error,
          ]
        }
      ).show(json: self.options.json ? rows : nil)
    }

    /// "–" before the first.
    private static func loss(_ value: Double) -> String {
      value.isFinite && value != 0 ? String(format: "%.4f", value) : "–"
    }
  }

  struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "End a training job without a model, and wait until it has ended.",
      discussion: "Ends with 1 where nobody knows whether the registry has its model all the same.")
    @OptionGroup var options: FleetOptions
    @Argument(help: "Id of the job.") var job: String

    func run() async throws {
      let (job, options) = (self.job, self.options)
      let isKept = Mutex(false)
      let goesOn = CommandHint.text(
        "The cancellation is kept: the job ends by itself.", [.init("Follow it", "fleet train watch \(job)")],
        again: options.again)
      let unanswered = CommandHint.text(
        "Whether \(job) ends is not known: the call was not answered.", [.init("See", "fleet train list")],
        again: options.again)
      let ended = try await options.withClients { clients in
        try await Following.run {
          isKept.withLock { $0 } ? goesOn : unanswered
        } _: {
          let models = ModelWork(clients: clients, progress: ProgressReport(), longestTraining: .seconds(120))
          _ = try await clients.training.cancelJob(
            CancelJobRequest(jobID: job), options: .within(.seconds(10)))
          isKept.withLock { $0 = true }
          do {
            return try await models.follow(job)
          } catch let error as FleetError where error.code == .timedOut {
            throw FleetError(.timedOut, "\(error.message) \(goesOn)")
          }
        }
      }
      let state = ended.progress?.state ?? .unspecified
      let doubt = state == .cancelled ? Self.doubt(ended.progress?.error ?? "") : ""
      try Listing.show(
        state == .cancelled ? "\(job) is cancelled\(doubt)" : "\(job) was \(state) already",
        json: options.json ? Row(ended) : nil)
      guard doubt.isEmpty else { throw ExitCode.failure }
    }

    /// What training says of a cancelled job besides that it is cancelled.
    private static func doubt(_ error: String) -> String {
      let plain = "The job was cancelled."
      let more = error.hasPrefix(plain) ? String(error.dropFirst(plain.count)) : error
      return more.isEmpty ? "" : ":" + (more.hasPrefix(" ") ? more : " \(more)")
    }
  }
}
