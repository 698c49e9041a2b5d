package import Schemas
import ServiceKit

extension RolloutState {
  /// Releases a version to robots.
  /// - Parameters:
  ///   - names: empty for the whole fleet, robots that come later included.
  ///   - requestID: of a request that came before, the release that it made is the answer; empty for none.
  ///   - salt: random text, so that ids are never used again, not even after the database was lost.
  /// - Returns: the release's id.
  package mutating func createRelease(
    version: String, robots names: [String], reason: String, guarded: Bool, requestID: String = "",
    salt: String, now: Moment
  ) throws(RolloutError) -> String {
    let requestID = try Self.checked(requestID: requestID)
    if let requestID, let made = self.releases.values.first(where: { $0.requestID == requestID }) {
      return made.id
    }
    let robots = try self.known(names)
    for experiment in self.experiments.values where experiment.state == .running {
      guard Set(experiment.robots).isDisjoint(with: robots) else {
        throw RolloutError(
          .notNow,
          "Experiment \(experiment.id) runs on these robots; end it first, or choose others.")
      }
    }
    let id = self.release(
      version: version, robots: robots, isFleet: names.isEmpty, reason: reason, guarded: guarded,
      experimentID: nil, salt: salt, now: now)
    self.releases[id]?.requestID = requestID
    return id
  }

  /// - Returns: nil for none.
  static func checked(requestID: String) throws(RolloutError) -> String? {
    guard requestID.utf8.count <= 64 else {
      throw RolloutError(.invalid, "request_id has \(requestID.utf8.count) bytes; 64 are the most.")
    }
    return requestID.isEmpty ? nil : requestID
  }

  mutating func release(
    version: String, robots: [String], isFleet: Bool, reason: String, guarded: Bool, experimentID: String?,
    salt: String, now: Moment
  ) -> String {
    self.count += 1
    let id = "release-\(self.count)-\(salt)"
    var release = ReleaseRecord(
      id: id, number: self.count, version: version, robots: robots, previous: [:],
      reason: reason.firstScalars(1_000), guarded: guarded, experimentID: experimentID,
      createdUnixNanos: now.unixNanos)
    for name in robots {
      guard var robot = self.robots[name] else { continue }
      release.previous[name] = robot.placement
      robot.place(Placement(version: version, releaseID: id), decided: now.unixNanos, life: self.life)
      self.robots[name] = robot
    }
    if isFleet {
      release.previousFleet = self.fleet
      self.fleet = Placement(version: version, releaseID: id)
      self.fleetDecidedUnixNanos = now.unixNanos
    }
    self.releases[id] = release
    self.settle(now: now)
    return id
  }

  /// Takes a release back: its robots get what they had before. What is taken back already stays as it is.
  /// - Parameters:
  ///   - alertID: the alert that caused it; empty for none.
  ///   - evidence: counts and test as text, kept with the release.
  package mutating func rollBack(
    _ id: String, reason: String, alertID: String, evidence: String, salt: String, now: Moment
  ) throws(RolloutError) {
    guard let release = self.releases[id] else {
      throw RolloutError(.notFound, "There is no release '\(id.prefix(64))'.")
    }
    guard release.state != .rolledBack else { return }
    guard release.isActive else {
      throw RolloutError(
        .notNow, "No robot acts under \(id) any more: later releases took over all of its robots.")
    }
    if let experimentID = release.experimentID, let experiment = self.experiments[experimentID],
      experiment.state == .running
    {
      self.cancel(experiment, reason: reason, salt: salt, now: now)
    }
    self.takeBack(id, reason: reason, alertID: alertID, evidence: evidence, now: now)
    self.settle(now: now)
  }

  /// Marks a release as taken back, and moves those of its robots that still are on it.
  mutating func takeBack(_ id: String, reason: String, alertID: String, evidence: String, now: Moment) {
    guard var release = self.releases[id] else { return }
    // Nothing may lead back to it: what came after it remembers what was before it instead.
    for var other in self.releases.values where other.id != id {
      let before = other
      for (robot, placement) in other.previous where placement.releaseID == id {
        other.previous[robot] = release.previous[robot] ?? .nothing
      }
      if other.previousFleet?.releaseID == id { other.previousFleet = release.previousFleet }
      if other != before { self.releases[other.id] = other }
    }
    release.restoring = []
    var generations: [String: UInt64] = [:]
    for name in release.robots {
      guard var robot = self.robots[name] else { continue }
      if robot.placement.releaseID == id {
        robot.place(release.previous[name] ?? .nothing, decided: now.unixNanos, life: self.life)
      }
      release.restoring.append(name)
      generations[name] = robot.generation
      self.robots[name] = robot
    }
    release.restoringGenerations = generations
    if self.fleet.releaseID == id {
      self.fleet = release.previousFleet ?? .nothing
      self.fleetDecidedUnixNanos = now.unixNanos
    }
    release.state = .rolledBack
    release.rolledBackUnixNanos = now.unixNanos
    release.alertID = alertID
    release.evidence = (evidence.isEmpty ? reason : evidence).firstScalars(4_000)
    self.releases[id] = release
  }

  /// What follows from an alert: the release that it is about, if that is guarded and still out.
  package func releaseToTakeBack(for alert: Alert) -> String? {
    guard alert.name == "SuccessRateRegression", alert.state != .resolved,
      let release = self.releases[alert.releaseID], release.guarded, release.isActive,
      alert.modelVersion.isEmpty || alert.modelVersion == release.version
    else { return nil }
    return release.id
  }

  /// Words of an alert that are worth keeping with the release.
  package static func evidence(of alert: Alert) -> String {
    let labels = alert.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    return ([alert.summary] + labels).joined(separator: "; ")
  }

  // MARK: Messages

  package func message(release: ReleaseRecord) -> Release {
    let state: ReleaseState =
      switch release.state {
      case .rollingOut: .rollingOut
      case .complete: .complete
      case .rolledBack: .rolledBack
      case .superseded: .superseded
      }
    return Release(
      releaseID: release.id, version: release.version, previousVersion: release.previousVersion,
      robots: release.robots, state: state, createdUnixNanos: release.createdUnixNanos,
      completedUnixNanos: release.completedUnixNanos, waiting: self.waiting(release),
      reason: release.reason, alertID: release.alertID, rolledBackUnixNanos: release.rolledBackUnixNanos,
      restoredUnixNanos: release.restoredUnixNanos, evidence: release.evidence)
  }

  package var fleetVersions: FleetVersions {
    FleetVersions(
      robots: self.robots.values.sorted { $0.name < $1.name }.map { robot in
        RobotVersion(
          robot: robot.name, desired: robot.placement.version, reported: robot.reported,
          generation: robot.generation, releaseID: robot.placement.releaseID,
          reportedUnixNanos: robot.reportedUnixNanos, error: robot.error,
          adopted: robot.placement.adopted ?? false)
      })
  }
}
