public import Storage

/// How a host dies.
public enum Death: String, Sendable, CaseIterable {
  /// Its process ends at once; what it wrote stays in the machine's memory, synced or not.
  case killed
  /// What was not synced is lost, or half there.
  case powerCut
}

/// A machine with a disk and a clock, which lives one life after another.
public final class SimulatedHost: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  public let name: String
  public let simulation: Simulation
  public let platter: Platter
  /// What its wall clock shows beyond true time.
  public var clockOffset: Duration = .zero
  /// The process that runs; nil while the host is down.
  public private(set) var life: HostLife?
  public private(set) var lives = 0
  /// Called when a life ends, still within the job that it ended in.
  public var didDie: ((Death) -> Void)?

  public init(_ name: String, in simulation: Simulation) {
    self.name = name
    self.simulation = simulation
    self.platter = Platter(host: name, simulation: simulation, random: simulation.random.fork())
  }

  public func boot() -> HostLife {
    precondition(self.life == nil, "\(self.name) runs already")
    self.lives += 1
    let life = HostLife(self, number: self.lives)
    self.life = life
    self.simulation.note("\(self.name) boots (\(self.lives))")
    return life
  }

  /// Ends the life that runs, between any two of its jobs or in the midst of one: nothing that it does from now on has an
  /// effect, and its tasks stay suspended for ever.
  public func die(_ death: Death) {
    guard let life = self.life else { return }
    life.isAlive = false
    self.life = nil
    self.simulation.note("\(self.name) dies: \(death)")
    if death == .powerCut { self.platter.cutPower() }
    self.didDie?(death)
  }
}

/// One process on a host, from its start to its death.
public final class HostLife: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  public let host: SimulatedHost
  public let number: Int
  public internal(set) var isAlive = true
  private var pool: HostPool?
  private var random: SimulationRandom

  init(_ host: SimulatedHost, number: Int) {
    self.host = host
    self.number = number
    self.random = host.simulation.random.fork()
    self.pool = HostPool(host.simulation, life: self)
    // Its suspended tasks and their threads refer to it for ever.
    _ = Unmanaged.passRetained(self)
  }

  public var simulation: Simulation { self.host.simulation }

  /// The host's disk as this life sees it: of no effect once it is dead.
  public var disk: any Disk { MountedDisk(platter: self.host.platter, life: self) }

  public var runtime: Runtime {
    let simulation = self.simulation
    return Runtime(
      now: { simulation.now },
      unixNanos: {
        let time = (simulation.elapsed + self.host.clockOffset).components
        return 1_700_000_000_000_000_000 + time.seconds * 1_000_000_000 + time.attoseconds / 1_000_000_000
      },
      sleepUntil: { try await self.sleep(until: $0) },
      random: { self.random.next() },
      taskExecutor: self.pool,
      makeSerialExecutor: { _ in HostThread(simulation, life: self) })
  }

  /// Begins a task of this host.
  public func start(_ body: @escaping @Sendable () async -> Void) {
    _ = Task(executorPreference: self.pool) { await body() }
  }

  /// Keeps an object for as long as the process: nothing of a host that died is taken down in order.
  public func keep(_ object: AnyObject) { _ = Unmanaged.passRetained(object) }

  private func sleep(until instant: ContinuousClock.Instant) async throws {
    let sleeper = Sleeper()
    await withTaskCancellationHandler {
      // Unchecked ones, here and below: those of a dead host are never resumed, and that is meant.
      await withUnsafeContinuation { continuation in
        guard !Task.isCancelled else { return continuation.resume() }
        sleeper.continuation = continuation
        sleeper.timer = self.simulation.at(instant - Simulation.start) { sleeper.wake() }
      }
    } onCancel: {
      sleeper.wake()
    }
    try Task.checkCancellation()
  }
}

private final class Sleeper: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  var continuation: UnsafeContinuation<Void, Never>?
  var timer: Timer?

  func wake() {
    self.timer?.cancel()
    self.timer = nil
    self.continuation?.resume()
    self.continuation = nil
  }
}
