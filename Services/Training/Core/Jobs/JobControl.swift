internal import GRPCCore
import Synchronization

/// How a running job is told to stop. Threads ask; anyone tells.
final class JobControl: Sendable {
  enum Stop: Sendable {
    /// The caller wants no model.
    case cancelled
    /// The process ends; go on later.
    case interrupted
  }

  private let stop = Mutex<Stop?>(nil)

  /// The first word counts.
  func request(_ stop: Stop) { self.stop.withLock { $0 = $0 ?? stop } }

  /// - Throws: ``TrainingError`` `.cancelled` or `.interrupted` once somebody asked for it.
  func check() throws {
    switch self.stop.withLock({ $0 }) {
    case .cancelled: throw TrainingError(.cancelled, "The job was cancelled.")
    case .interrupted:
      throw TrainingError(.interrupted, "Training is ending; the job goes on at its next start.")
    case nil: break
    }
  }

  /// Time for which a peer may be away before a job fails.
  static let patience: Duration = .seconds(600)

  /// Asks a peer again while it is away: a restart of ingest or rollout must not cost a job.
  /// - Throws: what `body` throws last, and ``check()``.
  func retrying<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
    let deadline = ContinuousClock.now + Self.patience
    var pause: Duration = .milliseconds(200)
    while true {
      try self.check()
      do {
        return try await body()
      } catch let error as RPCError where error.code == .unavailable && ContinuousClock.now < deadline {
        try await Task.sleep(for: pause)
        pause = min(pause * 2, .seconds(5))
      }
    }
  }
}
