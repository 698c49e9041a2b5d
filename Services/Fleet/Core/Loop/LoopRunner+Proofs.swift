import Foundation
import Schemas
import ServiceKit

/// Phases (f) to (j): the proofs.
extension LoopRunner {
  /// Model that all robots act with now, when nothing is being compared.
  private var currentVersion: String {
    self.state.summary.experiments.last.map { $0.decision == "promote" ? $0.candidate : $0.baseline } ?? "v1"
  }

  func experiment() async throws {
    let started = try await self.clients.rollout.startExperiment(
      StartExperimentRequest(
        baseline: "v1", candidate: "v2", robots: self.plan.robots,
        trialsPerArm: UInt64(self.plan.trialsPerArm), requestID: UUID().uuidString),
      options: .within(.seconds(30)))
    let id = started.experimentID
    let arms = [started.baseline ?? ExperimentArm(), started.candidate ?? ExperimentArm()]
    for arm in arms { try await self.waitUntil(arm.robots, report: arm.version) }
    // Both arms try the same layouts, so that neither has the easier ones.
    let perTask = (self.plan.trialsPerArm + self.plan.tasks.count - 1) / self.plan.tasks.count
    let units = self.units(self.plan.tasks, count: perTask, mode: .policy, kind: .evaluation)
    let trials = try await withThrowingTaskGroup(of: [TrialSummary].self) { group in
      for arm in arms {
        group.addTask {
          try await self.dispatcher.run("experiment \(arm.version)", units: units, robots: arm.robots)
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    self.state.addSuccess(trials)
    var experiment = Experiment()
    try await Deadline.wait(for: "the experiment's decision", limit: .seconds(60)) {
      experiment = try await self.clients.rollout.getExperiment(
        GetExperimentRequest(experimentID: id), options: .within(.seconds(10)))
      return experiment.state == .decided
    }
    let baseline = experiment.baseline ?? ExperimentArm()
    let candidate = experiment.candidate ?? ExperimentArm()
    let decided = LoopSummary.Experiment(
      baseline: baseline.version, candidate: candidate.version, decision: Self.word(experiment.decision),
      baselineTrials: baseline.trials, baselineSuccesses: baseline.successes,
      candidateTrials: candidate.trials,
      candidateSuccesses: candidate.successes, pValue: experiment.pValue)
    self.state.update { $0.experiments.append(decided) }
    self.progress.line("  \(decided.decision): \(experiment.explanation)")
    try await self.waitUntil(self.plan.robots, report: self.currentVersion)
  }

  private static func word(_ decision: ExperimentDecision) -> String {
    switch decision {
    case .promote: "promote"
    case .rollback: "rollback"
    default: "inconclusive"
    }
  }

  func waitUntil(_ robots: [String], report version: String) async throws {
    try await Deadline.wait(
      for: "\(robots.joined(separator: ", ")) to act with \(version)", limit: .seconds(90)
    ) {
      let versions = try await self.clients.rollout.getFleetVersions(.init(), options: .within(.seconds(10)))
        .robots
      let there = Set(versions.filter { $0.reported == version }.map(\.robot))
      return there.isSuperset(of: robots)
    }
  }

  func transfer() async throws {
    let task = self.plan.newTask
    let parent = self.currentVersion
    let units = self.demonstrations(of: [task], count: self.plan.transferDemonstrations)
    let demonstrations = try await self.dispatcher.run(
      "demonstrations of \(task)", units: units, robots: self.plan.robots)
    var request = StartTrainingRequest(kind: .finetune, version: "v3", parent: parent, newTasks: [task])
    request.query = TrialQuery(tasks: self.plan.tasks + [task], trainableOnly: true)
    request.configuration = TrainingConfiguration(
      replayShare: 0.3, freezeEncoder: true, seed: 3, maxSeconds: self.plan.transferTraining)
    try await self.train(request)
    try await self.release("v3", to: self.plan.robots, guarded: false, reason: "adds \(task)")
    let tests = self.units([task], count: self.plan.transferTrials, mode: .policy, kind: .evaluation)
    let trials = try await self.dispatcher.run(
      "trials of \(task) with v3", units: tests, robots: self.plan.robots)
    self.state.addSuccess(trials, version: "v3")
    self.state.update { summary in
      let count = summary.success["v3"]?[task] ?? .init(successes: 0, trials: 0)
      let model = summary.models.last { $0.version == "v3" }
      summary.transfer = .init(
        task: task, demonstrations: UInt64(demonstrations.count { $0.end?.outcome == .success }),
        optimizerSteps: model?.optimizerSteps ?? 0, seconds: model?.trainSeconds ?? 0,
        successes: count.successes,
        trials: count.trials)
    }
  }

  /// A model that learnt next to nothing goes to half of the robots while the other half goes on with the good one.
  func badRelease() async throws {
    var request = StartTrainingRequest(kind: .pretrain, version: "v-bad")
    request.query = TrialQuery(tasks: self.plan.tasks + [self.plan.newTask], trainableOnly: true)
    request.policy = PolicyConfiguration(imageSize: self.plan.imageSize)
    request.configuration = TrainingConfiguration(optimizerSteps: self.plan.badSteps, seed: 4)
    try await self.train(request)
    let half = self.plan.robots.count / 2
    let bad = Array(self.plan.robots.prefix(half))
    let good = Array(self.plan.robots.suffix(from: half))
    let release = try await self.release("v-bad", to: bad, guarded: true, reason: "deliberately bad")
    let id = release.releaseID
    let clients = self.clients
    let isBack: @Sendable () async throws -> Bool = {
      let now = try await clients.rollout.getRelease(
        GetReleaseRequest(releaseID: id), options: .within(.seconds(10)))
      guard now.state != .rolledBack else { return true }
      // The bad model makes healthy robots fail: an operator who knows lets them go on until the release is judged.
      try await Self.resumeUnhealthy(clients)
      return false
    }
    let perTask = (self.plan.badTrials + self.plan.tasks.count - 1) / self.plan.tasks.count
    let units = self.units(self.plan.tasks, count: perTask, mode: .policy, kind: .evaluation)
    let trials = try await withThrowingTaskGroup(of: [TrialSummary].self) { group in
      for robots in [bad, good] {
        group.addTask {
          try await self.dispatcher.run(
            "trials on \(robots.joined(separator: ", "))", units: units, robots: robots, enough: isBack)
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    self.state.addSuccess(trials)
    var done = Release()
    try await Deadline.wait(for: "the rollback of v-bad", limit: .seconds(90)) {
      done = try await clients.rollout.getRelease(
        GetReleaseRequest(releaseID: id), options: .within(.seconds(10)))
      return done.state == .rolledBack && done.restoredUnixNanos > 0
    }
    self.state.update { summary in
      summary.rollbacks.append(
        .init(
          from: "v-bad", to: done.previousVersion,
          detectSeconds: Double(done.rolledBackUnixNanos - done.createdUnixNanos) * 1e-9,
          restoreSeconds: Double(done.restoredUnixNanos - done.rolledBackUnixNanos) * 1e-9))
    }
    self.progress.line("  taken back: \(done.evidence)")
    try await self.resumeRobots()
  }

  /// As an operator would after the cause is gone: robots that a bad model made fail are fine again.
  private func resumeRobots() async throws {
    try await Self.resumeUnhealthy(self.clients)
    try await Deadline.wait(for: "resumed robots", limit: .seconds(60)) {
      let rows = try await self.clients.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
      return rows.allSatisfy { $0.state == .idle || $0.state == .working }
    }
  }

  private static func resumeUnhealthy(_ clients: FleetClients) async throws {
    let rows = try await clients.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
    for row in rows where row.state == .unhealthy {
      _ = try await clients.monitor.resumeRobot(
        ResumeRobotRequest(robot: row.robot, by: "fleet loop"), options: .within(.seconds(10)))
    }
  }

  /// The last robot's gripper is jammed: experts fail with it, the monitor takes it out, the others do the work.
  func breakGripper() async throws {
    guard let broken = self.plan.robots.last else { return }
    let others = Array(self.plan.robots.dropLast())
    let faulty = self.units(
      [self.plan.tasks[0]], count: self.plan.brokenTrials, mode: .demonstration, kind: .training,
      options: ["fault": "gripper-stuck"])
    let clients = self.clients
    let isOut: @Sendable () async throws -> Bool = {
      try await clients.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
        .contains { $0.robot == broken && $0.state == .unhealthy }
    }
    async let failures = self.dispatcher.run(
      "work of \(broken), gripper jammed", units: faulty, robots: [broken], limit: .seconds(120),
      enough: isOut)
    let work = self.units(self.plan.tasks, count: 2, mode: .policy, kind: .evaluation)
    let trials = try await self.dispatcher.run("work of the others", units: work, robots: others)
    self.state.addSuccess(trials)
    _ = try await failures
    try await Deadline.wait(for: "\(broken) to be taken out of the work", limit: .seconds(30), isOut)
    self.progress.line(
      "  \(broken) is out of the work; the others did \(trials.count) trials")
  }

  /// Waits until every spool is empty, then counts.
  func count() async throws {
    var filed: UInt64 = 0
    try await Deadline.wait(for: "empty spools", limit: .seconds(60)) {
      let statuses = try await self.clients.ask(robots: self.clients.robots.names) {
        try await $0.getStatus(.init(), options: .within(.seconds(10)))
      }.map { try $0.result.get() }
      filed = statuses.reduce(0) { $0 + $1.filed }
      return statuses.allSatisfy { ($0.heartbeat?.spooledTrials ?? 0) == 0 && $0.running == 0 }
    }
    let statistics = try await self.clients.ingest.getStatistics(.init(), options: .within(.seconds(30)))
    let alerts = try await self.clients.monitor.listAlerts(
      ListAlertsRequest(includeResolved: true), options: .within(.seconds(10))
    ).alerts
    self.state.update { summary in
      let rejected = statistics.quarantined.values.reduce(0, +)
      let kept = statistics.stored + rejected
      summary.trials = .init(
        published: filed, stored: statistics.stored, rejected: statistics.quarantined,
        lost: filed > kept ? filed - kept : 0, duplicates: statistics.duplicates)
      summary.alerts = alerts.map { .init(name: $0.name, robot: $0.robot, state: Self.word($0.state)) }
    }
  }

  private static func word(_ state: AlertState) -> String {
    switch state {
    case .firing: "firing"
    case .acknowledged: "acknowledged"
    case .resolved: "resolved"
    default: "unknown"
    }
  }
}
