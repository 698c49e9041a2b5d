import Schemas

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
  /// When that was decided; 0 for never.
  package var fleetDecidedUnixNanos: Int64 = 0
  /// SHA-256 in hex of the manifest of each version that was ever released, or ``lostContent``: a version never gets other content.
  package var pins: [String: String] = [:]
  /// Releases and experiments so far.
  package var count = 0
  package var limits = Limits()
  /// Number of the process that decides, random and not 0: decisions that it makes are counted apart from all others. Not stored.
  package var life: UInt64 = 1

  /// The pin of a version whose content nobody knows any more.
  package static let lostContent = ""

  package init() {}

  /// Notes a version's content before it is released.
  /// - Parameter manifest: SHA-256 in hex.
  /// - Throws: ``RolloutError`` `.conflict` where the version was released with other content, or nobody knows with which.
  package mutating func pin(_ version: String, to manifest: String) throws(RolloutError) {
    try self.check(version, has: manifest)
    self.pins[version] = manifest
  }

  /// Whether a version may have this content: what was released once never gets other content.
  /// - Throws: as ``pin(_:to:)``.
  package func check(_ version: String, has manifest: String) throws(RolloutError) {
    guard self.pins[version] != Self.lostContent else {
      throw RolloutError(
        .conflict,
        "Version \(version) was released before, and nobody knows its content any more: robots may have another "
          + "under this name. Register this content as another version, and release that.")
    }
    if let known = self.pins[version], known != manifest {
      throw RolloutError(
        .conflict,
        "Version \(version) was released before with other content (manifest \(known.prefix(12))…, now "
          + "\(manifest.prefix(12))…); robots would refuse it. Register the new content as another version.")
    }
  }

  /// Versions that robots have, had or may go back to, and whose content nobody noted: they are older than pins, or the pin was
  /// damaged.
  package var unpinned: [String] {
    let placements =
      [self.fleet] + self.robots.values.map(\.placement)
      + self.releases.values.flatMap { [$0.previousFleet ?? .nothing] + $0.previous.values }
    let versions =
      self.releases.values.map(\.version)
      + self.experiments.values.flatMap { [$0.baseline.version, $0.candidate.version] }
      // One that a robot came with has that robot's content.
      + placements.filter { $0.manifest == nil && !$0.version.isEmpty }.map(\.version)
    return Set(versions).subtracting(self.pins.keys).sorted()
  }

  /// Versions that robots have, or get when they come, and whose content is lost.
  package var lost: [String] {
    let placements = [self.fleet] + self.robots.values.map(\.placement)
    let versions = placements.filter { $0.manifest == nil && self.pins[$0.version] == Self.lostContent }
    return Set(versions.map(\.version)).sorted()
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
  package mutating func settle(now: Moment) {
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
          if release.completedUnixNanos == 0 { release.completedUnixNanos = now.unixNanos }
          release.state = .complete
        } else if release.state == .superseded {
          // A rollback of its successor brought its robots back.
          release.state = .rollingOut
        }
      }
      if release != before { self.releases[release.id] = release }
    }
  }

  /// Robots out of reach get the version when they return: the rollback does not wait for them, and is no longer restored
  /// when one comes back as it was.
  private func settleRollback(_ release: inout ReleaseRecord, now: Moment) {
    let robots = release.restoring.compactMap { self.robots[$0] }
    func isReachable(_ robot: RobotRecord) -> Bool {
      now.uptimeNanos - robot.heardUptimeNanos <= self.limits.reachableNanos
    }
    guard release.restoredUnixNanos == 0 else {
      let differs = robots.contains {
        isReachable($0) && !$0.isSettled
          && ($0.generation == release.restoringGenerations?[$0.name] || $0.reported == release.version)
      }
      if differs { release.restoredUnixNanos = 0 }
      return
    }
    let pending = robots.filter { !$0.isSettled }
    if !pending.contains(where: isReachable), pending.count < robots.count || robots.isEmpty {
      release.restoredUnixNanos = now.unixNanos
    }
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
}
