import Foundation
import Schemas
import ServiceKit
import Statistics

/// What `/api/status` answers and the page shows, as JSON. Times are Unix milliseconds; rates lie in [0, 1].
struct StatusReport: Encodable, Sendable {
  struct Robot: Encodable, Sendable {
    var robot: String
    var facility: String
    var state: String
    var model: String
    var desired: String
    var link: String
    var spooled: Int
    var successes: Int
    var trials: Int
    var consecutiveFailures: Int
    var actionP99Millis: Double
    var lastSeenMillis: Int64
    /// Why it does not work, or why the monitor lets it.
    var reason: String
    /// In the robot's own words: why it is stopped, and why it was resumed last; empty where that is not so.
    var stopReason: String
    var resumeReason: String
    /// Why its disk has not kept that yet; empty where it has.
    var unkept: String
  }

  struct Rate: Encodable, Sendable {
    var successes: Int
    var trials: Int
    var rate: Double
    /// Wilson interval, 95 %.
    var low: Double
    var high: Double

    init(_ proportion: Proportion) {
      let interval = proportion.wilsonInterval()
      self.successes = proportion.successes
      self.trials = proportion.trials
      self.rate = proportion.rate
      self.low = interval.lowerBound
      self.high = interval.upperBound
    }
  }

  struct Version: Encodable, Sendable {
    var version: String
    var total: Rate
    var tasks: [Task]
  }

  struct Task: Encodable, Sendable {
    var task: String
    var rate: Rate
  }

  struct AlertLine: Encodable, Sendable {
    var id: String
    var name: String
    var severity: String
    var state: String
    var subject: String
    var summary: String
    var remedy: String
    var startedMillis: Int64
  }

  struct ReleaseLine: Encodable, Sendable {
    var id: String
    var version: String
    var previous: String
    var state: String
    var robots: Int
    var waiting: Int
    var createdMillis: Int64
    var evidence: String
  }

  struct ExperimentLine: Encodable, Sendable {
    var id: String
    var baseline: String
    var candidate: String
    var state: String
    var decision: String
    var baselineRate: Rate
    var candidateRate: Rate
    var trialsPerArm: Int
    var explanation: String
  }

  struct Model: Encodable, Sendable {
    var version: String
    var parent: String
    var tasks: Int
    var parameters: Int
    var createdMillis: Int64
  }

  struct ServiceLine: Encodable, Sendable {
    var service: String
    var state: String
    var sinceMillis: Int64
    /// 0 for never.
    var answeredMillis: Int64
    var detail: String
  }

  var timeMillis: Int64
  /// When ingest counted the trials, and when rollout was asked, last; 0 for never.
  var countsMillis: Int64
  var rolloutMillis: Int64
  var services: [ServiceLine]
  var robots: [Robot]
  /// How many robots are in each state; those in which there is none are left out.
  var robotsByState: [String: Int]
  /// Safety events of robots that the monitor has no room to know, since it started: nobody is told of them.
  var droppedEvents: Int
  var versions: [Version]
  var demonstrations: Rate
  /// Open ones, the most severe first, then newest first; at most ``maximumAlerts``.
  var alerts: [AlertLine]
  /// How many are open, by severity.
  var openAlerts: [String: Int]
  var releases: [ReleaseLine]
  var experiments: [ExperimentLine]
  var models: [Model]
}

extension StatusReport {
  static let maximumAlerts = 100

  init(_ facts: StatusBoard.Facts) {
    let rollout = facts.rollout
    self.timeMillis = facts.unixNanos / 1_000_000
    self.countsMillis = facts.countsUnixNanos / 1_000_000
    self.rolloutMillis = facts.rolloutUnixNanos / 1_000_000
    self.services = facts.services.map { row in
      ServiceLine(
        service: row.service, state: row.state.word,
        sinceMillis: row.sinceUnixNanos / 1_000_000, answeredMillis: row.answeredUnixNanos / 1_000_000,
        detail: row.detail)
    }
    self.robots = facts.robots.map { row in
      let heartbeat = row.heartbeat ?? Heartbeat()
      return Robot(
        robot: row.robot, facility: heartbeat.facility, state: row.state.word, model: heartbeat.modelVersion,
        desired: heartbeat.desiredVersion, link: heartbeat.link, spooled: Int(heartbeat.spooledTrials),
        successes: Int(clamping: row.successes), trials: Int(clamping: row.trials),
        consecutiveFailures: Int(row.consecutiveFailures),
        actionP99Millis: heartbeat.actionP99Micros.isFinite ? heartbeat.actionP99Micros / 1_000 : 0,
        lastSeenMillis: row.lastSeenUnixNanos / 1_000_000, reason: row.reason,
        stopReason: heartbeat.stopReason, resumeReason: heartbeat.resumeReason, unkept: heartbeat.unkept)
    }
    self.robotsByState = self.robots.reduce(into: [:]) { $0[$1.state, default: 0] += 1 }
    self.droppedEvents = Int(clamping: facts.state.droppedEvents)
    let acted = facts.counts.filter { $0.mode != .demonstration && !$0.modelVersion.isEmpty }
    self.versions = Dictionary(grouping: acted, by: \.modelVersion).sorted { $0.key > $1.key }.map {
      version, cells in
      let tasks = Dictionary(grouping: cells, by: \.task).sorted { $0.key < $1.key }
      return Version(
        version: version, total: Rate(Self.sum(cells)),
        tasks: tasks.map { Task(task: $0.key, rate: Rate(Self.sum($0.value))) })
    }
    self.demonstrations = Rate(Self.sum(facts.counts.filter { $0.mode == .demonstration }))
    let alerts = facts.state.alerts.mostSevereFirst()
    self.openAlerts = alerts.reduce(into: [:]) { $0["\($1.severity)", default: 0] += 1 }
    self.alerts = alerts.prefix(Self.maximumAlerts).map { alert in
      AlertLine(
        id: alert.alertID, name: alert.name, severity: "\(alert.severity)", state: "\(alert.state)",
        subject: [alert.robot, alert.subject, alert.modelVersion].first { !$0.isEmpty } ?? "",
        summary: alert.summary, remedy: alert.remedy, startedMillis: alert.startedUnixNanos / 1_000_000)
    }
    self.releases = rollout.releases.prefix(20).map { release in
      ReleaseLine(
        id: release.releaseID, version: release.version, previous: release.previousVersion,
        state: "\(release.state)", robots: release.robots.count, waiting: release.waiting.count,
        createdMillis: release.createdUnixNanos / 1_000_000, evidence: release.evidence)
    }
    self.experiments = rollout.experiments.prefix(10).map { experiment in
      ExperimentLine(
        id: experiment.experimentID, baseline: experiment.baseline?.version ?? "",
        candidate: experiment.candidate?.version ?? "", state: "\(experiment.state)",
        decision: experiment.decision == .unspecified ? "" : "\(experiment.decision)",
        baselineRate: Rate(Self.proportion(experiment.baseline)),
        candidateRate: Rate(Self.proportion(experiment.candidate)),
        trialsPerArm: Int(clamping: experiment.trialsPerArm), explanation: experiment.explanation)
    }
    self.models = rollout.models.suffix(20).reversed().map { model in
      Model(
        version: model.version, parent: model.parent, tasks: model.tasks.count,
        parameters: Int(clamping: model.parameters), createdMillis: model.createdUnixNanos / 1_000_000)
    }
  }

  private static func sum(_ cells: [OutcomeCount]) -> Proportion {
    cells.reduce(.nothing) { sum, cell in
      // Bounded, so that no sum of them overflows.
      let trials = Int(min(cell.trials, 1 << 40))
      return sum + Proportion(successes: min(trials, Int(clamping: cell.successes)), trials: trials)
    }
  }

  private static func proportion(_ arm: ExperimentArm?) -> Proportion {
    let trials = Int(clamping: arm?.trials ?? 0)
    return Proportion(successes: min(trials, Int(clamping: arm?.successes ?? 0)), trials: trials)
  }

  var json: Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(self)) ?? Data("{}".utf8)
  }
}

extension StatusBoard.Facts {
  /// Every robot, with its trials as ingest counted them.
  var robots: [RobotRow] {
    var counts: [String: (successes: UInt64, trials: UInt64)] = [:]
    for cell in self.counts {
      counts[cell.robot, default: (0, 0)].successes &+= cell.successes
      counts[cell.robot, default: (0, 0)].trials &+= cell.trials
    }
    return self.state.rows(counts: counts)
  }
}
