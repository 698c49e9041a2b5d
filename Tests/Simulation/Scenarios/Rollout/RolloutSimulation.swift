import RolloutCore
import SimulationKit

/// Robots that follow rollout while an operator releases and takes back, through troubles that a seed chooses, until everything
/// works again and every robot acts with what is desired of it.
package final class RolloutSimulation: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  /// Time that robots have to come to what is desired once the troubles are over.
  private static let patience: Duration = .seconds(900)

  private let simulation: Simulation
  private let network: SimulatedNetwork
  private let plan: RolloutPlan
  private let rollout: RolloutHost
  private let robots: [FollowerHost]
  private let oracle: RolloutOracle
  private let troubles: Troubles
  private var random: SimulationRandom
  /// What was decided, as rollout says it.
  private var state = RolloutState()

  /// - Parameters:
  ///   - folder: for rollout's database and the models; made, and left for the caller to remove.
  ///   - listener: hears every event in words.
  package init(seed: UInt64, folder: String, listener: (@Sendable (String) -> Void)? = nil) throws {
    let simulation = Simulation(seed: seed)
    simulation.trace.listener = listener
    self.simulation = simulation
    var random = simulation.random.fork()
    let plan = RolloutPlan(&random)
    self.plan = plan
    let network = SimulatedNetwork(simulation)
    self.network = network
    self.troubles = Troubles(plan.hosts, network: network)
    let oracle = RolloutOracle(simulation)
    oracle.clockIsTrue = plan.hosts.clockJumps == nil
    oracle.readsFail = plan.robotDisk.read > 0
    self.oracle = oracle
    let models = try SampleModels(folder: "\(folder)/registry")
    var databaseRandom = random.fork()
    let rollout = RolloutHost(
      network: network,
      databases: try DatabaseFolders(root: "\(folder)/rollout") { databaseRandom.next() },
      models: models, oracle: oracle, in: simulation)
    self.rollout = rollout
    self.robots = (0..<plan.robots).map { index in
      let name = "robot-\(index + 1)"
      let equipment = random.chance(plan.equipped) ? random.pick(SampleModels.versions) : nil
      return FollowerHost(
        name, folder: "\(folder)/\(name)", network: network, models: models, oracle: oracle,
        rollout: rollout, equipment: equipment, trials: plan.trials, in: simulation)
    }
    for robot in self.robots { rollout.robots[robot.name] = robot }
    self.random = random
  }

  /// Runs it to its end.
  package func run() -> SimulationReport {
    self.boot()
    // Robots that come with a model get it.
    self.simulation.run(until: .seconds(1))
    self.begin()
    self.simulation.run(until: self.plan.troubles)
    self.end()
    self.settle("what was decided")
    if self.random.chance(0.5) {
      let version = self.random.pick(SampleModels.versions)
      self.rollout.releaseToAll(version)
      // Which decision is the latest is only as true as the clock, where the database no longer tells.
      let isCertain = self.plan.hosts.clockJumps == nil || !self.oracle.databaseIsHarmed
      self.settle("the last release") {
        !isCertain || self.state.robots.values.allSatisfy { $0.placement.version == version }
      }
    }
    self.simulation.stop()
    var report = SimulationReport(self.simulation, self.troubles)
    report.faults += self.rollout.failures
    report.published = self.oracle.reports
    report.stored = self.oracle.installations
    return report
  }

  // MARK: Troubles

  private func boot() {
    self.troubles.add(
      self.rollout.host, boot: { [unowned self] in try self.rollout.boot() },
      didDie: { [unowned self] _ in
        self.rollout.didDie(
          isLost: self.troubles.areOn && self.random.chance(self.plan.losses),
          isRestored: self.troubles.areOn && self.random.chance(self.plan.restorations))
      })
    for robot in self.robots {
      self.troubles.add(robot.host, boot: { try robot.boot() }, didDie: { _ in robot.forget() })
    }
    self.troubles.boot()
  }

  private func begin() {
    self.network.faults = self.plan.network
    self.rollout.storeFailures = self.plan.storeFailures
    self.rollout.storeDeaths = self.plan.storeDeaths
    self.troubles.begin()
    for robot in self.robots {
      robot.host.platter.faults = self.plan.robotDisk
      self.troubles.again(self.plan.memories) { robot.harmMemory() }
    }
    self.troubles.again(self.plan.pauseBetweenOrders) { self.rollout.order(rollbacks: self.plan.rollbacks) }
    self.troubles.again(.milliseconds(500) ... .seconds(20)) { self.rollout.remember() }
  }

  // MARK: The end

  /// From here on everything works.
  private func end() {
    self.rollout.storeFailures = 0
    self.rollout.storeDeaths = 0
    for robot in self.robots { robot.works = false }
    self.troubles.end()
  }

  /// Waits until every robot is known and acts with what is desired of it.
  private func settle(_ what: String, _ isDecided: () -> Bool = { true }) {
    let limit = self.simulation.elapsed + Self.patience
    while self.simulation.failure == nil {
      self.look()
      self.simulation.run(until: self.simulation.elapsed + .seconds(5))
      if isDecided(), self.robots.allSatisfy(self.isSettled) { return }
      guard self.simulation.elapsed < limit else { break }
    }
    for robot in self.robots where !self.isSettled(robot) || !isDecided() {
      let record = self.state.robots[robot.name]
      self.simulation.fail(
        "\(robot.name) did not come to \(what): it holds '\(robot.holds ?? "")', says "
          + "'\(record?.reported ?? "")', is to act with '\(record?.placement.version ?? "")'")
    }
  }

  /// Asks rollout for its state.
  private func look() {
    guard let life = self.rollout.host.life, let rollout = self.rollout.rollout else { return }
    life.start { [weak self] in self?.state = await rollout.snapshot }
  }

  private func isSettled(_ robot: FollowerHost) -> Bool {
    guard let record = self.state.robots[robot.name], record.isSettled, robot.model != nil else {
      return false
    }
    return record.generation == 0 || (robot.holds ?? "") == record.placement.version
  }
}
