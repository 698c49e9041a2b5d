internal import Artifacts
internal import Policy
internal import Schemas

/// What a job will do, once its data and parent are known: which tasks, which samples with which share.
struct JobPlan: Sendable {
  /// In the order of the heads.
  var tasks: [String]
  /// Tasks that the parent lacks.
  var newTasks: [String]
  /// Shares of each step's batch by task.
  var shares: [String: Double]
  /// Index of the first task that learns, where the rest is frozen.
  var firstLearningTask: Int?

  /// - Throws: ``TrainingError`` `.noData` or `.invalidRequest`, naming the tasks.
  init(
    kind: TrainingKind, request: StartTrainingRequest, parentTasks: [String], dataTasks: Set<String>,
    options: TrainingOptions
  ) throws {
    guard !dataTasks.isEmpty else {
      throw TrainingError(
        .noData,
        "No trial of the query can be learnt from: it needs successful demonstrations or labelled trials.")
    }
    let wanted = request.query?.tasks ?? []
    let known = Set(parentTasks)
    switch kind {
    case .pretrain:
      self.newTasks = wanted.isEmpty ? dataTasks.sorted() : Self.unique(wanted)
    case .update:
      self.newTasks =
        wanted.isEmpty
        ? dataTasks.subtracting(known).sorted() : Self.unique(wanted).filter { !known.contains($0) }
    default:
      self.newTasks =
        request.newTasks.isEmpty
        ? dataTasks.subtracting(known).sorted() : Self.unique(request.newTasks)
      guard !self.newTasks.isEmpty else {
        throw TrainingError(
          .invalidRequest,
          "The parent knows every task of the query already; there is none to add. Use UPDATE.")
      }
    }
    if let task = self.newTasks.first(where: { known.contains($0) }) {
      throw TrainingError(.invalidRequest, "The parent knows task '\(task)' already; it is not new.")
    }
    let missing = self.newTasks.filter { !dataTasks.contains($0) }
    guard missing.isEmpty else {
      throw TrainingError(
        .noData,
        "There is no trial to learn from for \(missing.joined(separator: ", ")). Collect successful "
          + "demonstrations first, or leave these tasks out.")
    }
    self.tasks = parentTasks + self.newTasks
    guard self.tasks.count <= ManifestRules.maximumTasks else {
      throw TrainingError(
        .invalidRequest,
        "The model would have \(self.tasks.count) tasks; at most \(ManifestRules.maximumTasks) are accepted. Name "
          + "fewer of them in the query.")
    }
    let old = parentTasks.filter { dataTasks.contains($0) }
    let freeze = kind == .finetune && options.freezeEncoder
    self.firstLearningTask = freeze ? parentTasks.count : nil
    // Every task has the same weight, but for the replay of old ones when new ones come. With everything old frozen,
    // old trials teach nothing and are left out.
    self.shares = [:]
    let replay =
      freeze
      ? 0 : kind == .finetune ? (options.replayShare > 0 ? options.replayShare : 0.5) : options.replayShare
    let splits = !self.newTasks.isEmpty && !old.isEmpty && (freeze || replay > 0)
    for task in self.newTasks {
      self.shares[task] = splits ? (1 - replay) / Double(self.newTasks.count) : 1
    }
    for task in old { self.shares[task] = splits ? replay / Double(old.count) : 1 }
  }

  /// Defaults of a kind for what the request leaves open.
  static func configuration(_ kind: TrainingKind, _ given: TrainingConfiguration) -> TrainingConfiguration {
    var configuration = given
    func fill(steps: UInt32, rate: Double) {
      if configuration.optimizerSteps == 0 { configuration.optimizerSteps = steps }
      if configuration.learningRate == 0 { configuration.learningRate = rate }
    }
    switch kind {
    case .pretrain: fill(steps: 4_000, rate: 1e-3)
    // Weights that are good already are moved with care.
    case .update: fill(steps: 2_000, rate: 5e-4)
    // A head alone is a convex problem: it takes, and needs, larger and fewer steps.
    default: fill(steps: 400, rate: given.freezeEncoder ? 1e-2 : 5e-4)
    }
    return configuration
  }

  private static func unique(_ names: [String]) -> [String] {
    var seen: Set<String> = []
    return names.filter { seen.insert($0).inserted }
  }
}
