import Foundation

/// Catches tasks that leave a simulation: on the Swift pool they would make a run depend on the machine.
///
/// The concurrency runtime asks a hook, where there is one, before it gives a job to its pool. What sleeps on the machine's
/// clock comes back on another thread, which ``Simulation`` does not let in.
enum Escapes {
  private typealias Enqueue = @convention(thin) (UnownedJob) -> Void
  private typealias EnqueueHook = @convention(thin) (UnownedJob, Enqueue) -> Void

  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()

  /// The simulation that runs on this thread.
  static var current: Simulation? {
    get { pthread_getspecific(self.key).map { Unmanaged<Simulation>.fromOpaque($0).takeUnretainedValue() } }
    set { pthread_setspecific(self.key, newValue.map { Unmanaged.passUnretained($0).toOpaque() }) }
  }

  /// Other threads go on as ever.
  static func watch() { _ = self.isWatching }

  private static let isWatching: Bool = {
    guard let hook = dlsym(dlopen(nil, RTLD_LAZY), "swift_task_enqueueGlobal_hook") else {
      fatalError("This Swift has no hook for its pool; simulations cannot be watched.")
    }
    hook.assumingMemoryBound(to: EnqueueHook?.self).pointee = { job, enqueue in
      if let simulation = Escapes.current { Escapes.report(in: simulation) }
      enqueue(job)
    }
    return true
  }()

  private static func report(in simulation: Simulation) {
    let callers = Thread.callStackSymbols.dropFirst(2).prefix(24).joined(separator: "\n  ")
    simulation.fail("a task was begun on the Swift pool, not by Runtime.taskExecutor:\n  \(callers)")
  }
}
