import Dispatch

/// Runs an actor on a queue of its own: decoding video, hashing and syncing block no thread of the Swift pool.
final class QueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  init(label: String) { self.queue = DispatchQueue(label: label, qos: .utility) }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}

/// Runs what blocks for long on a thread that is not one of the Swift pool's.
func offPool<Result: Sendable>(
  _ label: String, _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue(label: label, qos: .utility).async {
      continuation.resume(with: Swift.Result { try body() })
    }
  }
}
