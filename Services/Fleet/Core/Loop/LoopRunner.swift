import Foundation
import Schemas
import ServiceKit
import Statistics
import Synchronization

/// Runs the whole loop on simulated robots: demonstrate, store, train, release, compare, transfer, take back, break, sum up.
package struct LoopRunner: Sendable {
  let plan: LoopPlan
  let clients: FleetClients
  let progress: ProgressReport
  let state = LoopState()

  package init(plan: LoopPlan, clients: FleetClients, progress: ProgressReport) {
    self.plan = plan
    self.clients = clients
    self.progress = progress
  }

  /// Everything; the summary holds what was reached even where a later phase throws.
  package func run() async throws -> LoopSummary {
    try await self.phase("robots") { try await self.waitForRobots() }
    try await self.phase("demonstrate") { try await self.demonstrate() }
    try await self.phase("train v1") { try await self.trainFirst() }
    try await self.phase("act with v1") { try await self.actWithFirst() }
    try await self.phase("label and demonstrate") { try await self.collectMore() }
    try await self.phase("train v2") { try await self.trainSecond() }
    try await self.phase("experiment v1 against v2") { try await self.experiment() }
    try await self.phase("transfer") { try await self.transfer() }
    try await self.phase("bad release") { try await self.badRelease() }
    try await self.phase("broken gripper") { try await self.breakGripper() }
    try await self.phase("count") { try await self.count() }
    return self.state.summary
  }

  package var summary: LoopSummary { self.state.summary }

  private func phase(_ name: String, _ body: () async throws -> Void) async throws {
    self.progress.line("▸ \(name)")
    let start = ContinuousClock.now
    defer {
      let seconds = (ContinuousClock.now - start).seconds
      self.state.update { $0.phases.append(.init(name: name, seconds: seconds)) }
    }
    try await body()
  }

  var dispatcher: WorkDispatcher {
    WorkDispatcher(clients: self.clients, maximumSteps: self.plan.maximumSteps, progress: self.progress)
  }

  // MARK: Phases (a) to (e)

  private func waitForRobots() async throws {
    try await Deadline.wait(for: "every robot's first heartbeat", limit: .seconds(90)) {
      let rows = try await self.clients.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
      return Set(rows.filter { $0.state == .idle || $0.state == .working }.map(\.robot)).isSuperset(
        of: self.plan.robots)
    }
  }

  func demonstrations(of tasks: [String], count: Int) -> [WorkUnit] {
    self.units(
      tasks, count: count, mode: .demonstration, kind: .training, options: ["noise": "\(self.plan.noise)"])
  }

  enum SeedKind { case training, evaluation }

  /// Task after task in turn, so that every task has its share at any time.
  func units(
    _ tasks: [String], count: Int, mode: ControlMode, kind: SeedKind, options: [String: String] = [:]
  ) -> [WorkUnit] {
    let seeds = tasks.map { task in
      self.state.seeds {
        kind == .training ? $0.training(task, count: count) : $0.evaluation(task, count: count)
      }
    }
    return (0..<count).flatMap { index in
      zip(tasks, seeds).map { WorkUnit(task: $0, mode: mode, seed: $1[index], options: options) }
    }
  }

  private func demonstrate() async throws {
    let units = self.demonstrations(of: self.plan.tasks, count: self.plan.demonstrations)
    _ = try await self.dispatcher.run("demonstrations", units: units, robots: self.plan.robots)
  }

  private func trainFirst() async throws {
    var request = StartTrainingRequest(kind: .pretrain, version: "v1")
    request.query = TrialQuery(tasks: self.plan.tasks, trainableOnly: true)
    request.policy = PolicyConfiguration(imageSize: self.plan.imageSize)
    request.configuration = TrainingConfiguration(seed: 1, maxSeconds: self.plan.firstTraining)
    try await self.train(request)
  }

  private func actWithFirst() async throws {
    try await self.release("v1", to: self.plan.robots, guarded: false, reason: "first model")
    let units = self.units(self.plan.tasks, count: self.plan.firstTrials, mode: .policy, kind: .evaluation)
    let trials = try await self.dispatcher.run("trials with v1", units: units, robots: self.plan.robots)
    self.state.addSuccess(trials, version: "v1")
  }

  /// Labelled trials, more of them where v1 failed more; and further demonstrations of every task.
  private func collectMore() async throws {
    let v1 = self.state.summary.success["v1"] ?? [:]
    var units = self.demonstrations(of: self.plan.tasks, count: self.plan.furtherDemonstrations)
    for task in self.plan.tasks {
      let failures = v1[task].map { $0.trials - $0.successes } ?? 0
      guard failures > 0 else { continue }
      units += self.units([task], count: Int(failures), mode: .labelledPolicy, kind: .training)
    }
    _ = try await self.dispatcher.run("labels and demonstrations", units: units, robots: self.plan.robots)
  }

  private func trainSecond() async throws {
    var request = StartTrainingRequest(kind: .update, version: "v2", parent: "v1")
    request.query = TrialQuery(tasks: self.plan.tasks, trainableOnly: true)
    request.configuration = TrainingConfiguration(seed: 2, maxSeconds: self.plan.secondTraining)
    try await self.train(request)
  }

  // MARK: Training and releases

  var models: ModelWork { ModelWork(clients: self.clients, progress: self.progress) }

  func train(_ request: StartTrainingRequest) async throws {
    let manifest = try await self.models.train(request)
    self.state.update { $0.models.append(LoopSummary.Model(manifest)) }
  }

  @discardableResult
  func release(_ version: String, to robots: [String], guarded: Bool, reason: String) async throws -> Release
  {
    try await self.models.release(version, to: robots, guarded: guarded, reason: reason)
  }
}

/// What the loop has reached; shared by its phases.
final class LoopState: Sendable {
  private struct Content {
    var summary = LoopSummary()
    var seeds = SeedAllocator()
  }

  private let content = Mutex(Content())

  var summary: LoopSummary { self.content.withLock { $0.summary } }
  func update(_ change: (inout LoopSummary) -> Void) { self.content.withLock { change(&$0.summary) } }
  func seeds(_ take: (inout SeedAllocator) -> [UInt64]) -> [UInt64] {
    self.content.withLock { take(&$0.seeds) }
  }

  /// Counts finished policy trials as closed-loop success of the version that acted; those of another version count for that one.
  func addSuccess(_ trials: [TrialSummary], version: String? = nil) {
    self.update { summary in
      for trial in trials {
        guard let header = trial.header, let end = trial.end,
          end.outcome == .success || end.outcome == .failure
        else { continue }
        guard header.seed >= SeedAllocator.evaluationStart, version == nil || header.modelVersion == version
        else { continue }
        summary.success[header.modelVersion, default: [:]][
          header.task, default: .init(successes: 0, trials: 0)
        ]
        .add(end.outcome == .success)
      }
    }
  }
}

extension LoopSummary.Count {
  mutating func add(_ success: Bool) {
    self.trials += 1
    if success { self.successes += 1 }
  }
}

extension LoopSummary.Model {
  init(_ manifest: ModelManifest) {
    self.init(
      version: manifest.version, parent: manifest.parent, tasks: manifest.tasks,
      parameters: manifest.parameters,
      trainSeconds: manifest.trainSeconds, samplesPerSecond: manifest.samplesPerSecond,
      optimizerSteps: manifest.optimizerSteps)
  }
}

/// Waiting with an end.
enum Deadline {
  /// Asks until the answer is yes.
  /// - Throws: ``FleetError`` `.timedOut` after `limit`.
  static func wait(
    for what: String, limit: Duration, every pause: Duration = .milliseconds(300),
    _ isTrue: () async throws -> Bool
  ) async throws {
    let end = ContinuousClock.now + limit
    while try await !isTrue() {
      guard ContinuousClock.now < end else { throw FleetError(.timedOut, "Waited \(limit) for \(what).") }
      try await Task.sleep(for: pause)
    }
  }
}

extension Duration {
  var seconds: Double { Double(self.components.seconds) + Double(self.components.attoseconds) * 1e-18 }
}
