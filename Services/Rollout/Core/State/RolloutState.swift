package import Schemas

/// Everything that rollout decides about, as a value: no clock, no disk, no socket. A transition either throws and changes
/// nothing, or leaves a state that can be stored as it is.
package struct RolloutState: Sendable, Hashable {
  package struct Limits: Sendable, Hashable {
    package var robots = 10_000
    /// Nanoseconds without a report after which a robot counts as out of reach.
    package var reachableNanos: Int64 = 15_000_000_000
    package init() {}
  }

  package var robots: [String: RobotRecord] = [:]
  package var releases: [String: ReleaseRecord] = [:]
  package var experiments: [String: ExperimentRecord] = [:]
  /// What robots get that are heard of for the first time.
  package var fleet: Placement = .nothing
  /// Releases and experiments so far.
  package var count = 0
  package var limits = Limits()

  package init() {}

  // MARK: Robots

  /// Takes a robot's report. A robot is known from its first one.
  /// - Returns: what is desired now.
  package mutating func report(
    _ report: ReportVersionRequest, now: Int64
  ) throws(RolloutError) -> DesiredVersion {
    var robot: RobotRecord
    if let known = self.robots[report.robot] {
      robot = known
    } else {
      robot = try self.newRobot(report.robot)
    }
    robot.reported = report.version
    robot.reportedGeneration = report.generation
    robot.reportedUnixNanos = now
    robot.error = String(report.error.prefix(1_000))
    // The robot remembers more than this state, which was then lost: what is desired must be newer than what it knows.
    if report.generation > robot.generation { robot.generation = report.generation + 1 }
    self.robots[robot.name] = robot
    self.settle(now: now)
    return self.desired(robot.name)
  }

  private mutating func newRobot(_ name: String) throws(RolloutError) -> RobotRecord {
    guard Self.isName(name) else {
      throw RolloutError(
        .invalid,
        "'\(name.prefix(64))' is no name of a robot: 1 to 64 letters, digits, '.', '_' or '-'.")
    }
    guard self.robots.count < self.limits.robots else {
      throw RolloutError(.busy, "\(self.limits.robots) robots are known; no more are taken in.")
    }
    var robot = RobotRecord(name: name)
    if var release = self.releases[self.fleet.releaseID] {
      // A release of the whole fleet is also of those who come later.
      robot.place(self.fleet)
      release.robots.append(name)
      release.previous[name] = release.previousFleet ?? .nothing
      self.releases[release.id] = release
    }
    return robot
  }

  package func desired(_ robot: String) -> DesiredVersion {
    guard let record = self.robots[robot] else { return DesiredVersion(robot: robot) }
    return DesiredVersion(
      robot: robot, version: record.placement.version, releaseID: record.placement.releaseID,
      generation: record.generation)
  }

  /// Robots that have not said yet that they do what is desired.
  package var unsettled: [String] {
    self.robots.values.filter { $0.generation > 0 && !$0.isSettled }.map(\.name).sorted()
  }

  /// Names in order; all known ones where none is given.
  func known(_ names: [String]) throws(RolloutError) -> [String] {
    let unique = Set(names).sorted()
    for name in unique where self.robots[name] == nil {
      throw RolloutError(
        .notFound,
        "No robot '\(name.prefix(64))' has reported yet. Known: "
          + self.robots.keys.sorted().prefix(20).joined(separator: ", "))
    }
    let chosen = unique.isEmpty ? self.robots.keys.sorted() : unique
    guard !chosen.isEmpty else {
      throw RolloutError(.notNow, "No robot has reported yet; start the robots first.")
    }
    return chosen
  }

  // MARK: What follows from reports and time

  /// Brings the states of releases up to what robots reported.
  package mutating func settle(now: Int64) {
    let byRelease = Dictionary(grouping: self.robots.values, by: \.placement.releaseID)
    for var release in self.releases.values {
      let before = release
      if release.state == .rolledBack {
        self.settleRollback(&release, now: now)
      } else {
        let robots = byRelease[release.id] ?? []
        if robots.isEmpty {
          release.state = .superseded
        } else if robots.allSatisfy(\.isSettled) {
          if release.completedUnixNanos == 0 { release.completedUnixNanos = now }
          release.state = .complete
        } else if release.state == .superseded {
          // A rollback of its successor brought its robots back.
          release.state = .rollingOut
        }
      }
      if release != before { self.releases[release.id] = release }
    }
  }

  /// Robots out of reach get the version when they return; the rollback does not wait for them.
  private func settleRollback(_ release: inout ReleaseRecord, now: Int64) {
    guard release.restoredUnixNanos == 0 else { return }
    let robots = release.restoring.compactMap { self.robots[$0] }
    let pending = robots.filter { !$0.isSettled }
    let isReached = pending.allSatisfy { now - $0.reportedUnixNanos > self.limits.reachableNanos }
    if isReached, pending.count < robots.count || robots.isEmpty { release.restoredUnixNanos = now }
  }

  /// Robots that a release, or its rollback, still waits for.
  func waiting(_ release: ReleaseRecord) -> [String] {
    let names = release.state == .rolledBack ? release.restoring : release.robots
    return names.compactMap { self.robots[$0] }
      .filter {
        !$0.isSettled && (release.state == .rolledBack || $0.placement.releaseID == release.id)
      }
      .map(\.name)
  }

  /// 1 to 64 letters, digits, '.', '_', '-'; the first is no '.'.
  package static func isName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count) && !name.hasPrefix(".")
      && name.unicodeScalars.allSatisfy {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789._-".unicodeScalars.contains($0))
      }
  }
}
