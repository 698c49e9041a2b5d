import IngestCore
import Logging
import Schemas
import ServiceKit
import SimulationKit
import Storage
import Trials

/// Ingest's intake over its store, and the loop that feeds it.
final class IngestHost: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let host: SimulatedHost
  let databases: DatabaseFolders
  private let network: SimulatedNetwork
  private let configuration: TrialStore.Configuration
  private let limits: TrialAssembler.Limits
  private var intake: Intake?
  private(set) var store: TrialStore?
  private var events: AsyncStream<[UInt8]>.Continuation?
  private var random: SimulationRandom
  /// Chance that a transaction of the catalog fails, and how many did.
  var catalogFailures = 0.0
  private(set) var failures = 0
  /// Who hears acknowledgements.
  var robots: [String: RobotHost] = [:]
  /// Who checks them.
  var oracle: DeliveryOracle?
  static let folder = "/ingest"

  init(
    network: SimulatedNetwork, databases: DatabaseFolders, logFileBytes: Int, robotTrials: Int,
    in simulation: Simulation
  ) {
    self.host = SimulatedHost("ingest", in: simulation)
    self.network = network
    self.databases = databases
    self.random = simulation.random.fork()
    var configuration = TrialStore.Configuration()
    configuration.log.maximumFileBytes = logFileBytes
    self.configuration = configuration
    var limits = TrialAssembler.Limits()
    limits.shares.robotTrials = robotTrials
    self.limits = limits
  }

  /// - Throws: what the disk says; the host is up and does nothing then.
  func boot() throws {
    let life = self.host.boot()
    let catalog = try TrialCatalog(path: "\(self.databases.current)/catalog.sqlite") {
      try self.write(life)
    }
    life.keep(catalog)
    let store = try TrialStore(
      folder: Self.folder, configuration: self.configuration, disk: life.disk, runtime: life.runtime,
      catalog: catalog)
    life.keep(store)
    self.oracle?.checkLog()
    let intake = Intake(
      store: store, limits: self.limits, runtime: life.runtime, metrics: MetricsRegistry(), vitals: Vitals(),
      logger: .silent
    ) { self.publish($0, from: life) }
    life.keep(intake)
    let (events, continuation) = AsyncStream<[UInt8]>.makeStream()
    (self.store, self.intake, self.events) = (store, intake, continuation)
    life.start {
      await withDiscardingTaskGroup { group in
        group.addTask {
          while (try? await life.runtime.sleep(for: .seconds(1))) != nil { await intake.expire() }
        }
        for await bytes in events {
          guard let event = try? TrialEvent(serializedBytes: bytes),
            let trial = await intake.take(event, bytes: bytes.count)
          else { continue }
          group.addTask { await intake.settle(trial) }
        }
      }
    }
  }

  /// An event of a robot's stream arrives.
  func hear(_ event: [UInt8]) { self.events?.yield(event) }

  /// A call arrives; its server is this life.
  func upload(
    _ requests: AsyncThrowingStream<TrialEvent, any Error>, to life: HostLife
  ) async throws -> TrialAcknowledgement {
    guard let intake = self.intake else {
      throw CancellationError()
    }
    let acknowledgement = try await intake.upload(requests)
    if life.isAlive { self.oracle?.acknowledged(acknowledgement) }
    return acknowledgement
  }

  private func publish(_ publication: Intake.Publication, from life: HostLife) {
    guard life.isAlive, case .acknowledgement(let acknowledgement) = publication else { return }
    self.oracle?.acknowledged(acknowledgement)
    guard let robot = self.robots[acknowledgement.robot] else { return }
    self.network.publish(from: life, to: robot.host, stream: "acks") { _ in robot.hear(acknowledgement) }
  }

  /// Asks for trials, as training does, and tells the oracle what comes.
  func read(_ keys: [TrialKey], then done: @escaping @Sendable () -> Void) {
    guard let life = self.host.life, let store = self.store else { return done() }
    life.start {
      for key in keys {
        let trial = try? await store.trial(TrialName(robot: key.robot, trialID: key.trialID))
        self.oracle?.read(key, trial?.events.map { $0.serializedBytes() })
      }
      done()
    }
  }

  // MARK: Its databases

  private struct DatabaseFailure: Error {}

  /// A transaction of the catalog is about to begin: it may fail, as where the disk is full or another program locks it, and a
  /// host that is dead writes nothing.
  private func write(_ life: HostLife) throws {
    guard life.isAlive else { throw DatabaseFailure() }
    guard self.random.chance(self.catalogFailures) else { return }
    self.failures += 1
    self.host.simulation.note("the catalog cannot be written")
    throw DatabaseFailure()
  }

  /// Keeps the catalog as it is now, for a power cut to give back.
  func remember() {
    do { try self.databases.remember() } catch {
      self.host.simulation.fail("the catalog was not copied: \(error)")
    }
  }

  /// Settles what the next life finds of the catalog.
  func didDie(_ death: Death, losesCommits: Bool, losesAll: Bool) {
    (self.intake, self.store, self.events) = (nil, nil, nil)
    do {
      if losesAll {
        self.host.simulation.note("the catalog is lost")
        try self.databases.lose()
      } else {
        try self.databases.survive(death, keepsCommits: !losesCommits)
      }
    } catch {
      self.host.simulation.fail("the catalog was not copied: \(error)")
    }
  }
}
