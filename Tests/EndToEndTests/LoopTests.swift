import Foundation
import TestSupport
import Testing

/// The whole product as a person starts it, on Meta-World robots. Minutes; `deploy/test` runs it alone, because it needs
/// the machine for itself.
@Suite("fleet loop", .serialized, .timeLimit(.minutes(20)))
struct LoopTests {
  private struct Summary: Decodable {
    struct Trials: Decodable { var published, stored, lost, duplicates: Int }
    struct Model: Decodable {
      var version: String
      var tasks: [String]
      var optimizerSteps: Int
    }
    struct Count: Decodable { var successes, trials: Int }
    struct Experiment: Decodable {
      var baseline, candidate, decision: String
      var baselineTrials, candidateTrials: Int
      var pValue: Double
    }
    struct Transfer: Decodable { var demonstrations, successes, trials: Int }
    struct Rollback: Decodable {
      var from, to: String
      var detectSeconds, restoreSeconds: Double
    }
    struct Alert: Decodable { var name, robot, state: String }
    struct Phase: Decodable { var name: String }
    var trials: Trials
    var models: [Model]
    var success: [String: [String: Count]]
    var experiments: [Experiment]
    var transfer: Transfer
    var rollbacks: [Rollback]
    var alerts: [Alert]
    var phases: [Phase]
  }

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  @Test func `every phase ends, nothing is lost, the bad model is taken back`() async throws {
    let file = "\(self.folder.path)/summary.json"
    let loop = try FleetProcess(["loop", "--quick", "--data", "\(self.folder.path)/data", "--json", file])
    try await loop.end(within: .seconds(900))
    try #require(loop.status == 0, "\(loop.errors)")
    let summary = try JSONDecoder().decode(Summary.self, from: Data(contentsOf: URL(filePath: file)))

    #expect(summary.trials.published > 0)
    #expect(summary.trials.lost == 0 && summary.trials.duplicates == 0)
    #expect(summary.models.map(\.version) == ["v1", "v2", "v3", "v-bad"])
    #expect(summary.models.allSatisfy { $0.optimizerSteps > 0 })
    #expect(summary.models.first { $0.version == "v3" }?.tasks.count == 3)
    let second = try #require(summary.success["v2"]?.values)
    let (successes, trials) = second.reduce((0, 0)) { ($0.0 + $1.successes, $0.1 + $1.trials) }
    #expect(trials == 8)
    // An untrained policy never succeeds; the true rate of this one is above nine in ten.
    #expect(successes >= 4, "v2 succeeded in \(successes) of \(trials) trials")
    let experiment = try #require(summary.experiments.first)
    #expect(["promote", "inconclusive"].contains(experiment.decision))
    #expect(experiment.baselineTrials == 8 && experiment.candidateTrials == 8)
    #expect(summary.transfer.demonstrations > 0 && summary.transfer.trials > 0)
    let rollback = try #require(summary.rollbacks.first)
    #expect(rollback.from == "v-bad" && rollback.to == "v3")
    #expect(rollback.detectSeconds > 0 && rollback.restoreSeconds > 0)
    #expect(summary.alerts.contains { $0.name == "RobotConsecutiveFailures" && $0.robot == "robot-4" })
    #expect(summary.alerts.contains { $0.name == "SuccessRateRegression" })
    #expect(summary.phases.count == 11)
    #expect(loop.leftBehind.isEmpty)
  }

  @Test func `kill -9 of any service at any time loses nothing, and the loop goes on`() async throws {
    let file = "\(self.folder.path)/summary.json"
    let loop = try FleetProcess(["loop", "--quick", "--data", "\(self.folder.path)/data", "--json", file])
    try await eventually("robots demonstrate") { loop.errors.contains("▸ demonstrate") }
    var kills = 0
    let limit = ContinuousClock.now + .seconds(900)
    while loop.status == nil, ContinuousClock.now < limit {
      try await Task.sleep(for: .milliseconds(Int.random(in: 4_000...9_000)))
      // Each kind as often as the other, though there are four agents.
      let names = ["ingest", "training", "inference", "monitor", "rollout", "robot"]
      guard let victim = loop.children(named: names.randomElement() ?? "").randomElement() else { continue }
      kill(victim, SIGKILL)
      kills += 1
    }
    try #require(loop.status == 0, "\(loop.errors)")
    let summary = try JSONDecoder().decode(Summary.self, from: Data(contentsOf: URL(filePath: file)))
    #expect(kills >= 10)
    #expect(summary.trials.published > 0)
    #expect(summary.trials.lost == 0 && summary.trials.duplicates == 0)
    #expect(summary.rollbacks.map(\.from) == ["v-bad"])
    #expect(summary.phases.count == 11)
    #expect(loop.leftBehind.isEmpty)
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func `a signal ends every process within 10 seconds`(signal: Int32) async throws {
    let loop = try FleetProcess(["loop", "--quick", "--data", "\(self.folder.path)/data"])
    // In the midst of it: robots at work and trials on their way.
    try await eventually("robots demonstrate") { loop.errors.contains("demonstrations") }
    // Five services, four agents and their four control programs.
    let children = loop.children
    #expect(children.count == 13)
    loop.send(signal)
    try await loop.end(within: .seconds(10))
    #expect(loop.status == 1)
    #expect(loop.errors.contains("Interrupted."))
    #expect(children.filter(FleetProcess.isThere).isEmpty)
    #expect(loop.leftBehind.isEmpty)
  }

  @Test func `nobody survives kill -9 of fleet itself`() async throws {
    let loop = try FleetProcess(["loop", "--quick", "--data", "\(self.folder.path)/data"])
    try await eventually("robots demonstrate") { loop.errors.contains("demonstrations") }
    let children = loop.children
    #expect(children.count == 13)
    loop.send(SIGKILL)
    try await eventually("every child has noticed", within: .seconds(20)) {
      children.filter(FleetProcess.isThere).isEmpty
    }
    // Who is killed cannot tidy up: the next fleet of this folder would have used these again.
    let configuration = try Data(contentsOf: URL(filePath: "\(self.folder.path)/data/config.json"))
    let settings = try JSONDecoder().decode([String: [String: String]].self, from: configuration)
    try FileManager.default.removeItem(atPath: #require(settings["fleet"]?["sockets"]))
  }
}
