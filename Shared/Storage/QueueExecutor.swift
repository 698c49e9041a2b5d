public import Dispatch

/// Runs an actor on a queue of its own, so that what it does to a disk or an encoder blocks no thread of the Swift pool.
///
///     private let executor = QueueExecutor(label: "fleetloop.robot.spool")
///     nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }
public final class QueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  /// - Parameters:
  ///   - label: what a debugger calls the queue, e.g. "fleetloop.robot.spool".
  ///   - qos: `.utility` for what nobody waits for.
  public init(label: String, qos: DispatchQoS = .userInitiated) {
    self.queue = DispatchQueue(label: label, qos: qos)
  }

  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}
