import Foundation
import Storage

/// One thread on which all hosts of a simulation run: which of the ready jobs is next is the seed's choice, and time goes on
/// only between jobs. The same seed makes the same run.
///
/// Not thread-safe by design: everything that happens in it happens on the thread that calls ``run(until:)``.
public final class Simulation: @unchecked Sendable {
  /// What the thread may do next.
  private enum Ready {
    case job(UnownedJob, HostPool)
    case thread(HostThread)
    case event(Timer)
  }

  public struct Configuration: Sendable {
    /// Chance, for each job, that its thread stands still for a while first.
    public var stallChance = 0.0005
    public var stalls: ClosedRange<Duration> = .milliseconds(1) ... .seconds(2)
    /// Jobs after which a simulation is taken to run in circles.
    public var maximumSteps = 3_000_000

    public init() {}
  }

  public let seed: UInt64
  public var configuration: Configuration
  /// Time since the start.
  public private(set) var elapsed: Duration = .zero
  public private(set) var steps = 0
  public var trace = EventTrace()
  /// The first promise that broke; the simulation stops at it.
  public private(set) var failure: String?
  /// For what scenarios draw.
  public var random: SimulationRandom
  private var schedule: SimulationRandom
  private var ready: [Ready] = []
  private var timers = TimerHeap()
  private var timerCount: UInt64 = 0
  /// Executors are referred to without a count by the jobs that wait for them: they live as long as the simulation.
  private var executors: [AnyObject] = []
  private let thread: pthread_t
  static let start = ContinuousClock.now

  public init(seed: UInt64, configuration: Configuration = .init()) {
    self.seed = seed
    self.configuration = configuration
    var random = SimulationRandom(seed: seed)
    self.schedule = random.fork()
    self.random = random.fork()
    self.thread = pthread_self()
    Escapes.watch()
    // The tasks of hosts that died are suspended for ever, and refer to all of this.
    _ = Unmanaged.passRetained(self)
  }

  public var now: ContinuousClock.Instant { Self.start + self.elapsed }

  // MARK: Failing and telling

  /// Says that a promise broke. The first one counts.
  public func fail(_ message: String) {
    guard self.failure == nil else { return }
    self.failure = "at \(self.elapsed): \(message)"
    self.note("FAILED: \(message)")
  }

  /// Adds an event to the trace.
  public func note(_ event: @autoclosure () -> String) {
    let text = event()
    self.trace.add(text)
    self.trace.listener?("\(self.elapsed) \(text)")
  }

  // MARK: Time

  /// Calls `action` at an instant of the simulation, or a little later: never within another job.
  @discardableResult
  public func at(_ time: Duration, _ action: @escaping () -> Void) -> Timer {
    self.timerCount += 1
    let timer = Timer(at: max(time, self.elapsed), sequence: self.timerCount, action: action)
    self.timers.insert(timer)
    return timer
  }

  @discardableResult
  public func after(_ delay: Duration, _ action: @escaping () -> Void) -> Timer {
    self.at(self.elapsed + delay, action)
  }

  // MARK: Running

  /// Runs all that is to happen until an instant, a broken promise, or `isDone`, which is asked now and then.
  public func run(until end: Duration, isDone: () -> Bool = { false }) {
    self.checkThread()
    Escapes.current = self
    defer { Escapes.current = nil }
    while self.failure == nil {
      self.wakeTimers()
      if self.ready.isEmpty {
        guard !isDone(), let next = self.timers.first, next.at <= end else { break }
        self.elapsed = next.at
        continue
      }
      self.steps += 1
      guard self.steps < self.configuration.maximumSteps else {
        return self.fail("\(self.steps) jobs: this runs in circles")
      }
      self.step()
    }
    if self.failure == nil, !isDone() { self.elapsed = max(self.elapsed, end) }
  }

  /// Lets go of what is still to happen, so that a simulation that is over holds less.
  public func stop() {
    self.ready = []
    self.timers = TimerHeap()
  }

  private func wakeTimers() {
    while let timer = self.timers.first, timer.at <= self.elapsed {
      self.timers.removeFirst()
      if timer.action != nil { self.ready.append(.event(timer)) }
    }
  }

  private func step() {
    // A job takes a little time, so that no two are at once.
    self.elapsed += .nanoseconds(Int64(self.schedule.index(below: 20_000)))
    let index = self.schedule.index(below: self.ready.count)
    self.ready.swapAt(index, self.ready.count - 1)
    let chosen = self.ready.removeLast()
    switch chosen {
    case .event(let timer):
      self.trace.add(timer.sequence)
      timer.fire()
    case .job, .thread:
      if self.schedule.chance(self.configuration.stallChance) {
        let pause = self.schedule.within(self.configuration.stalls)
        self.after(pause) { self.ready.append(chosen) }
        return
      }
      self.run(chosen)
    }
  }

  private func run(_ chosen: Ready) {
    switch chosen {
    case .job(let job, let pool):
      // Jobs of a host that died are never run: nothing of it goes on.
      guard pool.life.isAlive else { return }
      self.trace.add(pool.number)
      job.runSynchronously(on: pool.asUnownedTaskExecutor())
    case .thread(let thread):
      guard thread.life.isAlive, let job = thread.next() else { return }
      self.trace.add(thread.number)
      thread.run(job)
      if thread.isWaiting { self.ready.append(.thread(thread)) }
    case .event: break
    }
  }

  // MARK: Executors

  func adopt(_ executor: AnyObject) -> UInt64 {
    self.executors.append(executor)
    return UInt64(self.executors.count)
  }

  func enqueue(_ job: UnownedJob, on pool: HostPool) {
    self.checkThread()
    self.ready.append(.job(job, pool))
  }

  func enqueue(_ thread: HostThread) {
    self.checkThread()
    self.ready.append(.thread(thread))
  }

  private func checkThread() {
    precondition(
      pthread_equal(self.thread, pthread_self()) != 0,
      "A job came from another thread: something under simulation uses a queue that is not its Runtime's.")
  }
}
