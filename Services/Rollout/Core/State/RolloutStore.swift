import Storage

/// Rollout's state on the disk: written before anything is answered or published.
package struct RolloutStore: Sendable {
  private let records: RecordStore

  /// Opens or makes `folder/rollout.sqlite`.
  /// - Throws: ``RolloutError`` `.storage` where it cannot be used, `.busy` where another process owns it.
  package init(folder: String) throws(RolloutError) {
    self.records = try Self.told { () throws(StorageError) in
      try RecordStore(folder: folder, name: "rollout", tables: ["robot", "release", "experiment", "fleet"])
    }
  }

  private struct Fleet: Codable, Hashable {
    var placement: Placement
    var count: Int
  }

  package func load() throws(RolloutError) -> RolloutState {
    var state = RolloutState()
    let fleet: Fleet?
    (state.robots, state.releases, state.experiments, fleet) = try Self.told { () throws(StorageError) in
      (
        try self.records.records(in: "robot"), try self.records.records(in: "release"),
        try self.records.records(in: "experiment"), try self.records.records(in: "fleet")["fleet"]
      )
    }
    state.fleet = fleet?.placement ?? .nothing
    state.count = fleet?.count ?? 0
    return state
  }

  /// Writes what differs, in one transaction.
  package func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) {
    var changes = RecordStore.Changes()
    do {
      try changes.replace(Self.timeless(old.robots), with: Self.timeless(new.robots), in: "robot")
      try changes.replace(old.releases, with: new.releases, in: "release")
      try changes.replace(old.experiments, with: new.experiments, in: "experiment")
      let fleets = [old, new].map { ["fleet": Fleet(placement: $0.fleet, count: $0.count)] }
      try changes.replace(fleets[0], with: fleets[1], in: "fleet")
    } catch {
      throw RolloutError(.storage, "Cannot encode the state of releases: \(error)")
    }
    let gathered = changes
    try Self.told { () throws(StorageError) in try self.records.apply(gathered) }
  }

  /// When a robot reported last is not worth a sync every few seconds; what it reported is.
  private static func timeless(_ robots: [String: RobotRecord]) -> [String: RobotRecord] {
    robots.mapValues { robot in
      var robot = robot
      robot.reportedUnixNanos = 0
      return robot
    }
  }

  private static func told<Result>(_ body: () throws(StorageError) -> Result) throws(RolloutError) -> Result {
    do {
      return try body()
    } catch {
      throw RolloutError(error.code == .inUse ? .busy : .storage, error.description)
    }
  }
}
