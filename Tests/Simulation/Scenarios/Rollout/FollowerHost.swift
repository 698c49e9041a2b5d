import Artifacts
import RobotCore
import Schemas
import SimulationKit
import Storage

/// A robot that follows rollout: its models and its memory.
final class FollowerHost: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let host: SimulatedHost
  private let network: SimulatedNetwork
  private let oracle: RolloutOracle
  private let models: SampleModels
  private unowned let rollout: RolloutHost
  /// On the machine's own disk: the models, which no fault touches.
  private let folder: String
  /// Nil until a life has recalled what the one before it left.
  private(set) var model: HeldModel?
  /// The version that it comes with; nil for none.
  private var equipment: String?
  /// How long its trials last, and pauses between them; nil where it does none.
  private let trials: ClosedRange<Duration>?
  /// Whether new trials begin.
  var works = true
  private var random: SimulationRandom

  init(
    _ name: String, folder: String, network: SimulatedNetwork, models: SampleModels, oracle: RolloutOracle,
    rollout: RolloutHost, equipment: String?, trials: ClosedRange<Duration>?, in simulation: Simulation
  ) {
    self.host = SimulatedHost(name, in: simulation)
    self.folder = folder
    self.network = network
    self.models = models
    self.oracle = oracle
    self.rollout = rollout
    self.equipment = equipment
    self.trials = trials
    self.random = simulation.random.fork()
  }

  var name: String { self.host.name }

  /// The version that it acts with; nil for none.
  var holds: String? { self.model?.current?.version }

  /// - Throws: what the disk says; the host is up and does nothing then.
  func boot() throws {
    let life = self.host.boot()
    let trust = self.models.trust
    let keeper = try ModelKeeper(
      folder: self.folder, disk: life.disk, runtime: life.runtime, trust: { trust },
      load: { manifest, _ in SampleModels.Policy(version: manifest.version) })
    life.keep(keeper)
    life.start { await self.work(life, keeper) }
  }

  private func work(_ life: HostLife, _ keeper: ModelKeeper) async {
    let model = HeldModel(runtime: life.runtime)
    let trials = TrialSlot(runtime: life.runtime)
    if let equipment = self.equipment { await self.equip(equipment, keeper) }
    let (memory, damage) = await keeper.recall()
    model.restore(memory, await keeper.lastGood(memory))
    self.oracle.recalled(
      self.name, memory, holds: model.current?.version, damage: damage,
      isHarmed: self.host.platter.isDamaged(self.memoryPath))
    self.model = model
    let follower = VersionFollower(
      robot: self.name, model: model, trials: trials, interval: .seconds(2), runtime: life.runtime,
      logger: .silent,
      install: { desired, memory in
        try await keeper.install(desired, memory: memory) { try await self.fetch($0, $1, from: life) }
      },
      remember: { memory in
        self.oracle.remembers(self.name, memory)
        try await keeper.remember(memory)
        self.oracle.remembered(self.name, memory)
      },
      report: { request in
        self.oracle.says(request, running: trials.current?.modelVersion)
        return try await self.network.call(
          from: life, to: self.rollout.host, "ReportVersion", requests: [request], deadline: .seconds(5),
          serve: { _, requests in try await self.rollout.report(requests) })
      })
    await withDiscardingTaskGroup { group in
      group.addTask { await follower.run() }
      group.addTask { await self.watch(model) }
      if let lengths = self.trials {
        group.addTask { await self.work(lengths, trials, model, life.runtime) }
      }
    }
  }

  /// Does trials, each with the version that it begins with.
  private func work(
    _ lengths: ClosedRange<Duration>, _ trials: TrialSlot, _ model: HeldModel, _ runtime: Runtime
  ) async {
    var count = 0
    while true {
      try? await runtime.sleep(for: self.random.within(lengths))
      guard self.works, let version = model.current?.version else { continue }
      count += 1
      let id = "\(self.host.lives)-\(count)"
      do { try trials.take(.init(trialID: id, modelVersion: version)) } catch {
        self.host.simulation.fail("\(self.name) cannot begin trial \(id): \(error)")
      }
      self.host.simulation.note("\(self.name) begins \(id) with \(version)")
      try? await runtime.sleep(for: self.random.within(lengths))
      self.host.simulation.note("\(self.name) ends \(id)")
      trials.release(id)
    }
  }

  private var memoryPath: String { "\(self.folder)/memory" }

  /// Harms what the robot remembers.
  func harmMemory() {
    let decay = self.random.pick([Platter.Decay.flippedBit, .badSector])
    self.host.platter.decay(decay, below: self.folder) { $0 == self.memoryPath }
  }

  private func fetch(
    _ request: GetModelRequest, _ take: @Sendable (ModelChunk) async throws -> Void, from life: HostLife
  ) async throws {
    let chunks = try await self.network.call(
      from: life, to: self.rollout.host, "GetModel", requests: [request], deadline: .seconds(10),
      serve: { _, requests in try await self.rollout.model(requests) })
    for chunk in chunks { try await take(chunk) }
  }

  /// Leaves it a model that somebody else gave it.
  private func equip(_ version: String, _ keeper: ModelKeeper) async {
    let chunks = self.models.chunks[version] ?? []
    do {
      var memory = VersionMemory()
      let installed = try await keeper.install(
        DesiredVersion(robot: self.name, version: version), memory: memory
      ) { _, take in for chunk in chunks { try await take(chunk) } }
      memory.acts(with: version, serial: installed.serial)
      self.oracle.remembers(self.name, memory)
      try await keeper.remember(memory)
      self.oracle.remembered(self.name, memory)
      self.oracle.isEquipped(self.name)
    } catch {
      // A thread that stood still for long does this when the troubles have begun: then it comes with none.
      self.host.simulation.note("\(self.name) was not given its first model")
    }
    self.equipment = nil
  }

  /// A publication arrives.
  func hear(_ desired: DesiredVersion) { self.model?.desire(desired, from: .publication) }

  /// Nothing of a life that ended is called again.
  func forget() { self.model = nil }

  private func watch(_ model: HeldModel) async {
    while true {
      let seen = model.changed.changes
      self.oracle.observed(self.name, model.memory, holds: model.current?.version)
      await model.changed.wait(beyond: seen, atMost: .seconds(1_000_000))
    }
  }
}
