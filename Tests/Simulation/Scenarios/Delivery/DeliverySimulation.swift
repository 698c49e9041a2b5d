import Schemas
import SimulationKit

/// Robots that file trials and an ingest that stores them, through troubles that a seed chooses, until everything works
/// again and everything has arrived.
package final class DeliverySimulation: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  /// Time that everything filed has to arrive once the troubles are over.
  private static let patience: Duration = .seconds(1_800)
  /// Time in which ingest forgets trials that came in part, and a robot that has not heard of a trial begins to upload it.
  private static let quiet: Duration = .seconds(20)
  /// Bytes of a log file for each of its bad sectors. Ingest tells damage from a disk that fails by what else of the file it can
  /// read, 4 KiB at once: of a file of a few sectors that is nothing, and then it rightly refuses to start.
  private static let badSectorSpacing = 8 << 10

  private let simulation: Simulation
  private let network: SimulatedNetwork
  private let plan: DeliveryPlan
  private let troubles: Troubles
  private let ingest: IngestHost
  private let robots: [RobotHost]
  private let oracle: DeliveryOracle
  private var random: SimulationRandom
  private var isRead = false

  /// - Parameters:
  ///   - folder: for the catalog's database; made, and removed at the end.
  ///   - listener: hears every event in words.
  package init(seed: UInt64, folder: String, listener: (@Sendable (String) -> Void)? = nil) throws {
    let simulation = Simulation(seed: seed)
    simulation.trace.listener = listener
    self.simulation = simulation
    var random = simulation.random.fork()
    let plan = DeliveryPlan(&random)
    self.plan = plan
    let network = SimulatedNetwork(simulation)
    self.network = network
    self.troubles = Troubles(plan.hosts, network: network)
    var databaseRandom = random.fork()
    let ingest = IngestHost(
      network: network, databases: try DatabaseFolders(root: folder) { databaseRandom.next() },
      logFileBytes: plan.logFileBytes, robotTrials: plan.robotTrials, in: simulation)
    self.ingest = ingest
    let oracle = DeliveryOracle(
      simulation, log: LogView(ingest.host.platter, folder: IngestHost.folder))
    self.oracle = oracle
    ingest.oracle = oracle
    self.robots = (0..<plan.robots).map { index in
      RobotHost(
        "robot-\(index + 1)", network: network, oracle: oracle, ingest: ingest,
        pauses: plan.pauseBetweenTrials, in: simulation)
    }
    for robot in self.robots { ingest.robots[robot.host.name] = robot }
    self.random = random
    oracle.isPutAside = { key in ingest.robots[key.robot]?.isPutAside(key.trialID) ?? false }
  }

  /// Runs it to its end.
  package func run() -> SimulationReport {
    self.begin()
    self.simulation.run(until: self.plan.troubles)
    self.end()
    self.settle()
    self.rest()
    self.judge()
    self.simulation.stop()
    var report = SimulationReport(self.simulation, self.troubles)
    report.faults += self.ingest.failures
    report.published = self.oracle.filed
    report.stored = self.oracle.storedCount
    report.lost = self.simulation.failure == nil ? 0 : self.oracle.missing.count
    report.duplicates = self.oracle.duplicates
    return report
  }

  // MARK: Troubles

  private func begin() {
    self.network.faults = self.plan.network
    self.troubles.add(
      self.ingest.host, boot: { [unowned self] in try self.ingest.boot() },
      didDie: { [unowned self] in
        self.ingest.didDie(
          $0, losesCommits: self.random.chance(self.plan.databaseLosses),
          losesAll: self.random.chance(self.plan.databaseLosses / 3))
      })
    for robot in self.robots {
      self.troubles.add(robot.host, boot: { try robot.boot() }, didDie: { _ in robot.forget() })
      robot.host.platter.faults = self.plan.robotDisk
      robot.host.platter.capacity = self.plan.robotCapacity ?? .max
    }
    self.ingest.host.platter.faults = self.plan.ingestDisk
    self.ingest.host.platter.capacity = self.plan.ingestCapacity ?? .max
    self.ingest.catalogFailures = self.plan.catalogFailures
    self.troubles.boot()
    self.troubles.begin()
    self.decay()
    self.troubles.again(.milliseconds(500) ... .seconds(10)) { self.ingest.remember() }
  }

  /// Harms what lies on the disks.
  private func decay() {
    for (pauses, decay, spacing) in [
      (self.plan.logBits, Platter.Decay.flippedBit, 0),
      (self.plan.logSectors, .badSector, Self.badSectorSpacing),
    ] {
      self.troubles.again(pauses) {
        self.ingest.host.platter.decay(decay, below: "\(IngestHost.folder)/log", spacing: spacing)
        self.oracle.logDecayed()
      }
    }
    for robot in self.robots {
      self.troubles.again(self.plan.smallFiles) { robot.harmSmallFile() }
      self.troubles.again(self.plan.spoolSectors) { robot.harmTrial() }
      self.troubles.again(self.plan.silences) {
        robot.silenceDisk(for: self.random.within(self.plan.silence)) {
          self.troubles.areOn ? self.plan.robotDisk : DiskFaults()
        }
      }
    }
  }

  // MARK: The end

  /// From here on everything works.
  private func end() {
    self.ingest.catalogFailures = 0
    for robot in self.robots { robot.isWorking = false }
    self.troubles.end()
  }

  private func settle() {
    self.simulation.run(until: self.simulation.elapsed + Self.patience) { self.isSettled }
  }

  private var isSettled: Bool {
    // Asked after every event: what costs most comes last.
    self.ingest.host.life != nil && self.robots.allSatisfy { $0.pending == 0 }
      && self.oracle.unacknowledged.isEmpty && self.oracle.missing.isEmpty
  }

  /// Where nothing goes wrong, robots send each trial once: they hear what ingest says on its topic.
  private func rest() {
    guard self.isSettled else { return }
    // Threads that stand still for longer than an acknowledgement may take would have their trials uploaded, rightly.
    self.simulation.configuration.stallChance = 0
    let uploads = self.robots.map(\.uploads)
    self.simulation.run(until: self.simulation.elapsed + Self.quiet)
    for robot in self.robots { robot.isWorking = true }
    self.simulation.run(until: self.simulation.elapsed + self.plan.pauseBetweenTrials.upperBound)
    for robot in self.robots { robot.isWorking = false }
    self.settle()
    self.simulation.run(until: self.simulation.elapsed + Self.quiet)
    for (robot, before) in zip(self.robots, uploads) where robot.uploads > before {
      self.simulation.fail(
        "\(robot.host.name) uploaded \(robot.uploads - before) trials that it had published, and nothing was wrong"
      )
    }
  }

  private func judge() {
    guard self.simulation.failure == nil else { return }
    self.oracle.checkLog()
    for key in self.oracle.missing { self.simulation.fail("\(key) was filed and has not arrived") }
    for key in self.oracle.unacknowledged {
      self.simulation.fail("\(key) was filed and its robot never heard of it again")
    }
    for robot in self.robots where robot.pending != 0 {
      let pending = robot.pending.map { "\($0) trials" } ?? "everything, and is down"
      self.simulation.fail("\(robot.host.name) keeps \(pending), and ingest has answered for all")
    }
    self.ingest.read(self.oracle.promised) { self.isRead = true }
    self.simulation.run(until: self.simulation.elapsed + Self.patience) { self.isRead }
    if self.simulation.failure == nil, !self.isRead {
      self.simulation.fail("ingest does not give back what it stores")
    }
  }
}
