/// Where the tasks of one life of a host run: any that is ready may be next, as in the Swift pool.
final class HostPool: TaskExecutor, @unchecked Sendable {
  // Unchecked: used by the simulation's thread only, which it checks.
  private unowned let simulation: Simulation
  unowned let life: HostLife
  private(set) var number: UInt64 = 0

  init(_ simulation: Simulation, life: HostLife) {
    self.simulation = simulation
    self.life = life
    self.number = simulation.adopt(self)
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    guard self.life.isAlive else { return }
    self.simulation.enqueue(job, on: self)
  }
}

/// One thread of one life of a host: its jobs run in the order in which they came.
final class HostThread: SerialExecutor, @unchecked Sendable {
  // Unchecked: used by the simulation's thread only, which it checks.
  private unowned let simulation: Simulation
  unowned let life: HostLife
  private(set) var number: UInt64 = 0
  private var jobs: [UnownedJob] = []
  private var head = 0
  private var isRunning = false

  init(_ simulation: Simulation, life: HostLife) {
    self.simulation = simulation
    self.life = life
    self.number = simulation.adopt(self)
  }

  var isWaiting: Bool { self.head < self.jobs.count }

  func next() -> UnownedJob? {
    guard self.isWaiting else { return nil }
    defer {
      self.head += 1
      if self.head == self.jobs.count { (self.jobs, self.head) = ([], 0) }
    }
    return self.jobs[self.head]
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    guard self.life.isAlive else { return }
    let wasWaiting = self.isWaiting
    self.jobs.append(job)
    if !wasWaiting, !self.isRunning { self.simulation.enqueue(self) }
  }

  /// Runs a job; those that it adds wait for the simulation to choose this thread again.
  func run(_ job: UnownedJob) {
    self.isRunning = true
    job.runSynchronously(on: self.asUnownedSerialExecutor())
    self.isRunning = false
  }
}
