import Dispatch

/// Runs an actor on a queue of its own, so that what it does to a disk or an encoder blocks no thread of the Swift pool.
package final class QueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  package init(label: String) {
    self.queue = DispatchQueue(label: label, qos: .utility)
  }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}
