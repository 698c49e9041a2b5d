import GRPCCore
import RolloutCore
import Schemas
import ServiceKit
import SimulationKit
import Storage

/// Rollout over its database, the rounds that tell the robots, and an operator at its side.
final class RolloutHost: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let host: SimulatedHost
  let databases: DatabaseFolders
  private let network: SimulatedNetwork
  private let models: SampleModels
  private let oracle: RolloutOracle
  private(set) var rollout: Rollout?
  private var random: SimulationRandom
  /// Chances that a transaction fails, and that the process dies before or after one.
  var storeFailures = 0.0
  var storeDeaths = 0.0
  private(set) var failures = 0
  /// Who hears publications.
  var robots: [String: FollowerHost] = [:]

  init(
    network: SimulatedNetwork, databases: DatabaseFolders, models: SampleModels, oracle: RolloutOracle,
    in simulation: Simulation
  ) {
    self.host = SimulatedHost("rollout", in: simulation)
    self.network = network
    self.databases = databases
    self.models = models
    self.oracle = oracle
    self.random = simulation.random.fork()
  }

  /// - Throws: what the database says; the host is up and does nothing then.
  func boot() throws {
    let life = self.host.boot()
    let store = Store(
      store: try RolloutStore(folder: self.databases.current),
      willWrite: { () throws(RolloutError) in try self.willWrite(life) },
      didWrite: { state throws(RolloutError) in try self.didWrite(state, life) })
    let rollout = try Rollout(
      store: store, runtime: life.runtime, metrics: MetricsRegistry(), vitals: Vitals(), logger: .silent)
    life.keep(rollout)
    self.oracle.rolloutBegan()
    let peers = RolloutPeers(
      publish: { self.publish($0, from: life) },
      summarize: { _ in SummarizeOutcomesResponse() }, watch: { _ in }, alerts: { [] })
    let rounds = RolloutRounds(
      rollout: rollout, peers: peers, runtime: life.runtime, logger: .silent)
    life.start { await rounds.work() }
    self.rollout = rollout
  }

  private func publish(_ desired: DesiredVersion, from life: HostLife) {
    guard let robot = self.robots[desired.robot] else { return }
    self.network.publish(from: life, to: robot.host, stream: "releases") { _ in robot.hear(desired) }
  }

  // MARK: Calls

  /// A robot's report arrives.
  func report(_ requests: AsyncThrowingStream<ReportVersionRequest, any Error>) async throws -> DesiredVersion
  {
    for try await request in requests {
      guard let rollout = self.rollout else { break }
      self.oracle.arrives(request)
      defer { self.oracle.isAnswered(request) }
      return try await rollout.report(request)
    }
    throw RPCError(code: .cancelled, message: "no report came")
  }

  /// A robot asks for a model.
  func model(_ requests: AsyncThrowingStream<GetModelRequest, any Error>) async throws -> [ModelChunk] {
    for try await request in requests {
      if let chunks = self.models.chunks[request.version] { return chunks }
      throw RPCError(code: .notFound, message: "no model '\(request.version)'")
    }
    throw RPCError(code: .cancelled, message: "no request came")
  }

  // MARK: The operator

  /// Releases some version to some robots, or takes a release back.
  func order(rollbacks: Double) {
    let takesBack = self.random.chance(rollbacks)
    let version = self.random.pick(SampleModels.versions)
    let choice = self.random.next()
    self.order { state, occasion throws(RolloutError) in
      if takesBack {
        let active = state.releases.values.filter(\.isActive).sorted { $0.number < $1.number }
        guard !active.isEmpty else { return }
        let release = active[Int(choice % UInt64(active.count))].id
        self.oracle.takesBack(release)
        try state.rollBack(
          release, reason: "simulated", alertID: "", evidence: "", salt: occasion.salt, now: occasion.now)
      } else {
        let robots = state.robots.keys.sorted().filter { name in
          choice % 3 == 0 && choice >> (UInt64(name.utf8.last ?? 0) % 8 + 8) & 1 == 1
        }
        try self.release(version, to: robots, &state, occasion)
      }
    }
  }

  /// Releases a version to the whole fleet.
  func releaseToAll(_ version: String) {
    self.order { state, occasion throws(RolloutError) in try self.release(version, to: [], &state, occasion) }
  }

  private func release(
    _ version: String, to robots: [String], _ state: inout RolloutState, _ occasion: Rollout.Occasion
  ) throws(RolloutError) {
    try state.pin(version, to: self.models.hashes[version] ?? "")
    _ = try state.createRelease(
      version: version, robots: robots, reason: "simulated", guarded: false, salt: occasion.salt,
      now: occasion.now)
  }

  private func order(
    _ transition: @escaping @Sendable (inout RolloutState, Rollout.Occasion) throws(RolloutError) -> Void
  ) {
    guard let life = self.host.life, let rollout = self.rollout else { return }
    life.start {
      do { try await rollout.change(transition) } catch {
        self.host.simulation.note("an order is refused: \(error)")
      }
    }
  }

  // MARK: Its database

  private func willWrite(_ life: HostLife) throws(RolloutError) {
    guard life.isAlive else { throw RolloutError(.storage, "dead") }
    if self.random.chance(self.storeDeaths) { self.host.die(.killed) }
    guard life.isAlive, !self.random.chance(self.storeFailures) else {
      self.failures += 1
      throw RolloutError(.storage, "the database cannot be written")
    }
  }

  private func didWrite(_ state: RolloutState?, _ life: HostLife) throws(RolloutError) {
    if self.random.chance(self.storeDeaths) { self.host.die(.killed) }
    guard life.isAlive else { throw RolloutError(.storage, "dead") }
    if let state { self.oracle.changed(state) }
  }

  /// Keeps the database as it is now, for a restoration.
  func remember() {
    do { try self.databases.remember() } catch {
      self.host.simulation.fail("rollout's database was not copied: \(error)")
    }
  }

  /// Settles what the next life finds of the database: every transaction that returned, unless somebody harmed it.
  func didDie(isLost: Bool, isRestored: Bool) {
    self.rollout = nil
    if isLost || isRestored { self.oracle.databaseIsHarmed = true }
    do {
      if isLost {
        self.host.simulation.note("rollout's database is lost")
        try self.databases.lose()
      } else {
        if isRestored { self.host.simulation.note("an older copy of rollout's database is put in its place") }
        try self.databases.survive(isRestored ? .powerCut : .killed, keepsCommits: !isRestored)
      }
    } catch {
      self.host.simulation.fail("rollout's database was not copied: \(error)")
    }
  }

  /// The real database, whose transactions may fail.
  private struct Store: RolloutStoring {
    let store: RolloutStore
    let willWrite: @Sendable () throws(RolloutError) -> Void
    let didWrite: @Sendable (RolloutState?) throws(RolloutError) -> Void

    func load() throws(RolloutError) -> RolloutState { try self.store.load() }
    func damages() throws(RolloutError) -> [String] { try self.store.damages() }

    func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) -> Bool {
      try self.willWrite()
      let hasWritten = try self.store.save(new, replacing: old)
      try self.didWrite(new)
      return hasWritten
    }

    func save(times robots: [RobotRecord]) throws(RolloutError) -> Bool {
      try self.willWrite()
      let hasWritten = try self.store.save(times: robots)
      try self.didWrite(nil)
      return hasWritten
    }
  }
}
