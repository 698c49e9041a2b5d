import RobotCore
import RolloutCore
import Schemas
import SimulationKit

/// Knows what was ordered and what robots said and did, and looks whether the promises about models hold.
final class RolloutOracle {
  private struct Robot {
    /// What its disk may say after whatever comes next.
    var memories = [VersionMemory()]
    var memory = VersionMemory()
    var holds: String?
    /// Releases that it ever followed.
    var followed: Set<String> = []
    var isEquipped = false
    /// Reports that rollout has, and has not answered.
    var arriving: [ReportVersionRequest] = []
    /// When this life of rollout took in the last report, by its own clock.
    var heard: Int64 = 0
    /// That report, and when it was; nil where it is not certain which one it was.
    var said: (report: ReportVersionRequest, at: Duration)?
  }

  /// A little less than the time for which rollout counts a robot as reachable.
  private static let reachable: Duration = .seconds(14)

  private let simulation: Simulation
  private var robots: [String: Robot] = [:]
  private var takenBack: Set<String> = []
  /// Whether the database was lost or exchanged for an older copy: then rollout may know less than the robots.
  var databaseIsHarmed = false
  /// Whether a robot may find what it remembers unreadable although nothing harmed it.
  var readsFail = false
  /// Whether rollout's clock says when decisions were made.
  var clockIsTrue = true
  private(set) var reports = 0
  private(set) var installations = 0

  init(_ simulation: Simulation) { self.simulation = simulation }

  // MARK: Robots

  func isEquipped(_ robot: String) { self.robots[robot, default: Robot()].isEquipped = true }

  func remembers(_ robot: String, _ memory: VersionMemory) {
    self.robots[robot, default: Robot()].memories.append(memory)
  }

  func remembered(_ robot: String, _ memory: VersionMemory) {
    self.robots[robot, default: Robot()].memories = [memory]
  }

  /// A life begins with what an earlier one left.
  /// - Parameters:
  ///   - damage: what the robot says is wrong with it; nil for nothing.
  ///   - isHarmed: whether the disk has harmed it.
  func recalled(_ robot: String, _ memory: VersionMemory, holds: String?, damage: String?, isHarmed: Bool) {
    let known = self.robots[robot] ?? Robot()
    self.simulation.note("\(robot) recalls \(Self.text(memory.desired)), holds \(holds ?? "no model")")
    if damage != nil {
      if !isHarmed, !self.readsFail {
        self.simulation.fail("\(robot) forgot what nothing harmed: \(damage ?? "")")
      }
      // It does not know what was good.
      if holds != nil { self.simulation.fail("\(robot) forgot what it was told, and begins with a model") }
    } else if !known.memories.contains(memory) {
      self.simulation.fail("\(robot) recalls what it never remembered, or forgot what it did: \(memory)")
    }
    if damage == nil, (holds ?? "") != memory.current {
      self.simulation.fail("\(robot) acted with '\(memory.current)' and begins with '\(holds ?? "")'")
    }
    // What somebody else gave it is forgotten with the rest, and nobody can give it back.
    if damage != nil { self.robots[robot, default: Robot()].isEquipped = false }
    self.robots[robot, default: Robot()].memory = memory
    self.robots[robot, default: Robot()].holds = holds
  }

  /// A robot is about to report.
  /// - Parameter running: the version of the trial that runs; nil where none does.
  func says(_ report: ReportVersionRequest, running: String?) {
    let acts = running ?? self.robots[report.robot]?.holds ?? ""
    guard report.version != acts, running != nil else { return }
    self.simulation.fail("\(report.robot) acts with '\(acts)' and says '\(report.version)'")
  }

  /// A robot follows something else, or acts with something else.
  func observed(_ robot: String, _ memory: VersionMemory, holds: String?) {
    let known = self.robots[robot] ?? Robot()
    let (old, new) = (known.memory.desired, memory.desired)
    if old != new { self.simulation.note("\(robot) follows \(Self.text(new))") }
    if old.epoch == new.epoch, new.generation < old.generation {
      self.simulation.fail("\(robot) followed \(Self.text(old)) and follows the older \(Self.text(new))")
    }
    if self.clockIsTrue, new.decidedUnixNanos < old.decidedUnixNanos, !self.takenBack.contains(old.releaseID)
    {
      self.simulation.fail("\(robot) followed \(Self.text(old)) and now what was decided before it")
    }
    self.check(robot, old, memory)
    if known.holds != holds {
      self.simulation.note("\(robot) holds \(holds ?? "no model")")
      if holds != nil { self.installations += 1 }
      if holds == nil, !new.remove {
        self.simulation.fail("\(robot) lost its model and nobody ordered that")
      }
    }
    self.robots[robot, default: Robot()].memory = memory
    self.robots[robot, default: Robot()].holds = holds
    if !new.releaseID.isEmpty { self.robots[robot, default: Robot()].followed.insert(new.releaseID) }
  }

  /// An order to give the model up follows only from releases that an operator took back.
  private func check(_ robot: String, _ old: DesiredVersion, _ memory: VersionMemory) {
    guard memory.desired.remove, !old.remove, let known = self.robots[robot], known.holds != nil else {
      return
    }
    let isMeant =
      self.databaseIsHarmed
      ? !self.takenBack.isDisjoint(with: known.followed)
      : !known.isEquipped && known.followed.isSubset(of: self.takenBack)
    if !isMeant {
      self.simulation.fail(
        "\(robot) is ordered to give its model up, and nobody took back all that it was given")
    }
  }

  private static func text(_ desired: DesiredVersion) -> String {
    guard desired.generation > 0 else { return "nothing" }
    let version = desired.remove ? "no model" : "\(desired.version) by \(desired.releaseID)"
    return "\(version) (\(desired.epoch % 1_000):\(desired.generation))"
  }

  // MARK: Rollout

  /// A new process takes what robots said before it as its database has it.
  func rolloutBegan() {
    for robot in self.robots.keys {
      self.robots[robot]?.heard = 0
      self.robots[robot]?.said = nil
      self.robots[robot]?.arriving = []
    }
  }

  func takesBack(_ release: String) {
    self.simulation.note("\(release) is taken back")
    self.takenBack.insert(release)
  }

  func arrives(_ report: ReportVersionRequest) {
    self.reports += 1
    self.robots[report.robot, default: Robot()].arriving.append(report)
  }

  func isAnswered(_ report: ReportVersionRequest) {
    guard let index = self.robots[report.robot]?.arriving.firstIndex(of: report) else { return }
    self.robots[report.robot]?.arriving.remove(at: index)
  }

  /// Rollout has stored a new state. A rollback counts as restored only while every robot that was heard of lately said that
  /// it is.
  func changed(_ state: RolloutState) {
    for record in state.robots.values.sorted(by: { $0.name < $1.name }) {
      guard let robot = self.robots[record.name], robot.heard != record.heardUptimeNanos else { continue }
      self.robots[record.name]?.heard = record.heardUptimeNanos
      // Which of two reports it was cannot be told from here.
      self.robots[record.name]?.said =
        robot.arriving.count == 1 ? (robot.arriving[0], self.simulation.elapsed) : nil
    }
    for release in state.releases.values where release.state == .rolledBack && release.restoredUnixNanos != 0
    {
      for name in release.restoring {
        guard let record = state.robots[name], let said = self.robots[name]?.said,
          record.generation == release.restoringGenerations?[name],
          self.simulation.elapsed - said.at < Self.reachable,
          said.report.version != record.placement.version
        else { continue }
        self.simulation.fail(
          "\(release.id) counts as restored, and \(name) said that it acts with '\(said.report.version)', not "
            + "'\(record.placement.version)'")
      }
    }
  }
}
