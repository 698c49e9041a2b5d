import Storage

/// Where rollout's state is kept between two processes.
package protocol RolloutStoring: Sendable {
  /// - Throws: ``RolloutError`` `.storage`.
  func load() throws(RolloutError) -> RolloutState

  /// Makes what was stored the new state, and returns once it is durable.
  /// - Returns: whether anything had to be written.
  /// - Throws: ``RolloutError`` `.storage`; then nothing was changed.
  func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) -> Bool

  /// Stores records whose times alone have changed, which ``save(_:replacing:)`` leaves out.
  /// - Returns: whether anything had to be written.
  func save(times robots: [RobotRecord]) throws(RolloutError) -> Bool

  /// What was in the way of loading all, in sentences that say what to do.
  func damages() throws(RolloutError) -> [String]
}

/// Rollout's state on the disk: written before anything is answered or published.
package struct RolloutStore: RolloutStoring {
  private let records: RecordStore

  /// Opens or makes `folder/rollout.sqlite`.
  /// - Throws: ``RolloutError`` `.storage` where it cannot be used, `.busy` where another process owns it.
  package init(folder: String) throws(RolloutError) {
    self.records = try Self.told { () throws(StorageError) in
      try RecordStore(
        folder: folder, name: "rollout", tables: ["robot", "release", "experiment", "fleet", "pin"])
    }
  }

  private struct Fleet: Codable, Hashable {
    var placement: Placement
    var count: Int
    /// Nil in a record of a version that did not note it.
    var decidedUnixNanos: Int64?

    init(_ state: RolloutState) {
      self.placement = state.fleet
      self.count = state.count
      self.decidedUnixNanos = state.fleetDecidedUnixNanos
    }
  }

  package func load() throws(RolloutError) -> RolloutState {
    var state = RolloutState()
    let (fleet, damages) = try Self.told { () throws(StorageError) in
      (try self.records.records(Fleet.self, in: "fleet")["fleet"], try self.records.damages())
    }
    if fleet == nil, damages.contains(where: { $0.table == "fleet" }) {
      // What the fleet has is not known any more, and robots that go back to it must not lose their models: as with a lost
      // database, each is taken with what it says that it has.
      try Self.told { () throws(StorageError) in
        try self.records.setAside("robot", why: "the fleet's own record is damaged")
      }
    }
    (state.robots, state.releases, state.experiments, state.pins) = try Self.told {
      () throws(StorageError) in
      (
        try self.records.records(in: "robot"), try self.records.records(in: "release"),
        try self.records.records(in: "experiment"), try self.records.records(in: "pin")
      )
    }
    state.fleet = fleet?.placement ?? .nothing
    state.fleetDecidedUnixNanos = fleet?.decidedUnixNanos ?? 0
    state.count = fleet?.count ?? 0
    return state
  }

  package func damages() throws(RolloutError) -> [String] {
    try Self.told { () throws(StorageError) in try self.records.damages().map(\.sentence) }
  }

  /// Writes what differs, in one transaction.
  @discardableResult
  package func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) -> Bool {
    try self.write { changes in
      let moved = new.robots.filter { name, robot in
        old.robots[name].map(Self.timeless) != Self.timeless(robot)
      }
      for (name, robot) in moved { try changes.put(robot, id: name, in: "robot") }
      try changes.replace(old.releases, with: new.releases, in: "release")
      try changes.replace(old.experiments, with: new.experiments, in: "experiment")
      try changes.replace(old.pins, with: new.pins, in: "pin")
      try changes.replace(["fleet": Fleet(old)], with: ["fleet": Fleet(new)], in: "fleet")
    }
  }

  package func save(times robots: [RobotRecord]) throws(RolloutError) -> Bool {
    try self.write { changes in
      for robot in robots { try changes.put(robot, id: robot.name, in: "robot") }
    }
  }

  private func write(_ gather: (inout RecordStore.Changes) throws -> Void) throws(RolloutError) -> Bool {
    var changes = RecordStore.Changes()
    do { try gather(&changes) } catch {
      throw RolloutError(.storage, "Cannot encode the state of releases: \(error)")
    }
    let gathered = changes
    try Self.told { () throws(StorageError) in try self.records.apply(gathered) }
    return !gathered.isEmpty
  }

  /// When a robot reported last is not worth a sync every few seconds; what it reported is.
  private static func timeless(_ robot: RobotRecord) -> RobotRecord {
    var robot = robot
    robot.reportedUnixNanos = 0
    robot.heardUptimeNanos = 0
    return robot
  }

  private static func told<Result>(_ body: () throws(StorageError) -> Result) throws(RolloutError) -> Result {
    do {
      return try body()
    } catch {
      throw RolloutError(error.code == .inUse ? .busy : .storage, error.description)
    }
  }
}
