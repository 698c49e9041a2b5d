import Artifacts
package import Schemas
import ServiceKit

/// Reports of robots, and what to make of one that follows what this state never said.
extension RolloutState {
  /// How what a robot follows stands to the record of it.
  private enum Standing {
    /// It follows the latest decision.
    case same
    /// It has yet to hear of it.
    case behind
    /// It follows what this state cannot have said: one of both lost something.
    case foreign
  }

  /// Takes a robot's report. A robot is known from its first one.
  ///
  /// Where the state lost what the robot knows (a new database, a restored copy) or the robot follows nonsense, the newer of
  /// both decisions stands, in a new epoch: losing the database takes no model from anybody, and no number that a robot says
  /// is ever counted on from.
  /// - Parameter epoch: random, not 0; for a robot that needs a new one.
  /// - Returns: what is desired now.
  package mutating func report(
    _ report: ReportVersionRequest, epoch: UInt64, now: Moment
  ) throws(RolloutError) -> DesiredVersion {
    let known = self.robots[report.robot]
    let isNew = known == nil
    var robot: RobotRecord
    if let known { robot = known } else { robot = try self.newRobot(report.robot, epoch) }
    robot.reported = Names.isValid(report.version) ? report.version : ""
    robot.reportedUnixNanos = now.unixNanos
    robot.heardUptimeNanos = now.uptimeNanos
    robot.error = report.error.firstScalars(1_000)
    let following = report.following ?? DesiredVersion()
    let standing = Self.standing(of: following, robot)
    robot.follows = standing == .same && !self.actsWithOther(report, than: robot.placement)
    if standing == .foreign, following.epoch != 0 {
      robot.leave(following.epoch, at: following.generation)
    }
    if robot.epoch == 0 || (standing == .foreign && !isNew) {
      robot.begin(epoch: epoch, life: self.life)
    }
    if isNew || standing == .foreign { self.reconcile(&robot, report, isNew: isNew, now: now) }
    self.robots[robot.name] = robot
    self.settle(now: now)
    return self.desired(robot.name)
  }

  /// Whether it acts with the version that is desired, but with other content.
  private func actsWithOther(_ report: ReportVersionRequest, than placement: Placement) -> Bool {
    guard report.version == placement.version, !report.manifestSha256.isEmpty,
      let wanted = self.hash(of: placement)
    else { return false }
    return Digest.hex(report.manifestSha256) != wanted
  }

  private func hash(of placement: Placement) -> String? {
    let hash = placement.version.isEmpty ? nil : placement.manifest ?? self.pins[placement.version]
    return hash == Self.lostContent ? nil : hash
  }

  private static func standing(of following: DesiredVersion, _ robot: RobotRecord) -> Standing {
    if following.generation == 0 {
      // A robot that follows nothing is behind, unless it came with a model about which nothing was decided.
      return robot.generation == 0 && !robot.reported.isEmpty ? .foreign : .behind
    }
    if following.epoch == robot.epoch, robot.epoch != 0 {
      if following.generation < robot.generation { return .behind }
      let isSaid =
        following.generation == robot.generation && following.version == robot.placement.version
        && following.releaseID == robot.placement.releaseID
      return isSaid ? .same : .foreign
    }
    return robot.hasLeft(following.epoch, generation: following.generation) ? .behind : .foreign
  }

  private func newRobot(_ name: String, _ epoch: UInt64) throws(RolloutError) -> RobotRecord {
    guard Names.isValid(name) else {
      throw RolloutError(
        .invalid,
        "'\(name.prefix(64))' is no name of a robot: \(Names.rule).")
    }
    guard self.robots.count < self.limits.robots else {
      throw RolloutError(.busy, "\(self.limits.robots) robots are known; no more are taken in.")
    }
    return RobotRecord(name: name, epoch: epoch, life: self.life)
  }

  /// Decides between what the robot has and what this state would have it have: the later decision.
  private mutating func reconcile(
    _ robot: inout RobotRecord, _ report: ReportVersionRequest, isNew: Bool, now: Moment
  ) {
    let claim = self.claim(report, robot.reported, now: now)
    let (own, decided) =
      isNew
      ? (self.fleet, self.fleetDecidedUnixNanos) : (robot.placement, robot.decidedUnixNanos)
    let isDecided = isNew ? self.releases[own.releaseID] != nil : robot.generation > 0
    switch claim {
    case .placement(let placement, let claimed) where !isDecided || claimed > decided:
      self.adopt(placement, decided: claimed, by: &robot)
    case .placement where isNew, .none where isNew && isDecided:
      self.join(own, decided: decided, by: &robot, claim: claim)
    case .takenBack where !isDecided:
      // What it acts with was found bad here, and nothing better is known.
      robot.place(.nothing, decided: now.unixNanos, life: self.life)
    case .takenBack where isNew:
      self.join(own, decided: decided, by: &robot, claim: claim)
    case .placement(let placement, _) where robot.placement.version.isEmpty && !placement.version.isEmpty:
      // It was brought back to nothing because nobody knew here what it had: that takes no model from it.
      self.adopt(placement, decided: decided, by: &robot)
    case .placement, .takenBack, .none:
      if case .placement(let brought, _) = claim { self.note(brought, before: robot) }
      // The same decision, counted in the new epoch.
      if robot.generation > 0 {
        robot.place(robot.placement, decided: robot.decidedUnixNanos, life: self.life)
      }
    }
  }

  /// What a robot says that it was told, or has.
  private enum Claim {
    case none
    case placement(Placement, decided: Int64)
    /// A version by a release that was taken back here.
    case takenBack
  }

  private func claim(_ report: ReportVersionRequest, _ reported: String, now: Moment) -> Claim {
    guard let following = report.following, following.generation > 0 else {
      let held = Placement(
        version: reported, releaseID: "", manifest: Self.hash(report.manifestSha256), adopted: true)
      return reported.isEmpty ? .none : .placement(held, decided: 0)
    }
    // A decision from the future would outlive every later one.
    let decided = min(following.decidedUnixNanos, now.unixNanos)
    if following.version.isEmpty { return following.remove ? .placement(.nothing, decided: decided) : .none }
    guard Names.isValid(following.version) else { return .none }
    let release = self.releases[following.releaseID]
    if let release, release.version == following.version {
      guard release.state != .rolledBack else { return .takenBack }
      return .placement(Placement(version: release.version, releaseID: release.id), decided: decided)
    }
    let isForeign = release == nil && Names.isValid(following.releaseID)
    return .placement(
      Placement(
        version: following.version, releaseID: isForeign ? following.releaseID : "",
        manifest: Self.hash(following.manifestSha256), adopted: true),
      decided: decided)
  }

  /// A hash that a robot said, in hex; nil where it is none.
  private static func hash(_ bytes: [UInt8]) -> String? {
    bytes.count == Digest.size ? Digest.hex(bytes) : nil
  }

  /// Leaves a robot what it has.
  private mutating func adopt(_ placement: Placement, decided: Int64, by robot: inout RobotRecord) {
    if var release = self.releases[placement.releaseID], !release.robots.contains(robot.name) {
      release.robots.append(robot.name)
      release.previous[robot.name] =
        robot.generation > 0 ? robot.placement : release.previousFleet ?? .nothing
      self.releases[release.id] = release
    }
    robot.place(placement, decided: decided, life: self.life)
  }

  /// Remembers what a robot brings where the release that it is on counts on nothing before it.
  private mutating func note(_ brought: Placement, before robot: RobotRecord) {
    let id = robot.placement.releaseID
    guard var release = self.releases[id], release.robots.contains(robot.name), brought.releaseID != id,
      (release.previous[robot.name] ?? .nothing).version.isEmpty
    else { return }
    release.previous[robot.name] = brought
    self.releases[id] = release
  }

  /// A release of the whole fleet is also of those who come later. Its rollback gives them back what they came with.
  private mutating func join(
    _ placement: Placement, decided: Int64, by robot: inout RobotRecord, claim: Claim
  ) {
    guard var release = self.releases[placement.releaseID] else { return }
    robot.place(placement, decided: decided, life: self.life)
    if !release.robots.contains(robot.name) { release.robots.append(robot.name) }
    if case .placement(let brought, _) = claim {
      release.previous[robot.name] = brought
    } else {
      release.previous[robot.name] = release.previousFleet ?? .nothing
    }
    self.releases[release.id] = release
  }

  package func desired(_ robot: String) -> DesiredVersion {
    guard let record = self.robots[robot] else { return DesiredVersion(robot: robot) }
    let (placement, isDecided) = (record.placement, record.generation > 0)
    return DesiredVersion(
      robot: robot, version: placement.version, releaseID: placement.releaseID,
      generation: record.generation, epoch: isDecided ? record.epoch : 0,
      manifestSha256: self.hash(of: placement).flatMap { Digest.bytes(hex: $0) } ?? [],
      remove: isDecided && placement.version.isEmpty, decidedUnixNanos: record.decidedUnixNanos)
  }
}
