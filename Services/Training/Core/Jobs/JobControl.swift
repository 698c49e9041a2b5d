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

  /// Time for which a peer may be away, slow or busy before a job fails that has learned nothing yet.
  static let patience: Duration = .seconds(600)
  /// An attempt that took longer than any call without data may take got somewhere.
  private static let standstill = Peers.callTimeout * 2

  /// Asks a peer again while it is away, slow or busy: a restart of ingest or rollout must not cost a job.
  /// - Throws: what `body` throws last, ``patience`` after the first of the failures in a row; ``check()``.
  func retrying<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
    try await self.repeating(
      { error, time in
        [.unavailable, .resourceExhausted, .deadlineExceeded].contains(error.code) && time < Self.patience
      }, body)
  }

  /// Asks a peer until it has done it: what was learned is not lost because a peer is away, slow, busy or set up wrongly.
  /// - Parameter failed: told of each failure.
  /// - Throws: where the peer can never do it; ``check()``.
  func insisting<Result: Sendable>(
    failed: @Sendable (RPCError) -> Void, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    try await self.repeating(
      { error, _ in
        guard ![.alreadyExists, .invalidArgument].contains(error.code) else { return false }
        failed(error)
        return true
      }, body)
  }

  /// - Parameter goesOn: with the error, and the time since the first of the failures in a row.
  private func repeating<Result: Sendable>(
    _ goesOn: (RPCError, Duration) -> Bool, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    var firstFailure: ContinuousClock.Instant?
    var pause: Duration = .milliseconds(200)
    while true {
      try self.check()
      let began = ContinuousClock.now
      do {
        return try await body()
      } catch let error as RPCError {
        // A call that ends because the job does says so in words of its own.
        try self.check()
        if .now - began > Self.standstill { firstFailure = nil }
        let first = firstFailure ?? .now
        firstFailure = first
        guard goesOn(error, .now - first) else { throw error }
        try await Task.sleep(for: pause)
        pause = min(pause * 2, .seconds(5))
      }
    }
  }
}
