internal import Artifacts
internal import GRPCCore
internal import Storage
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

  /// ``TrainingError`` `.cancelled` or `.interrupted` once somebody asked for it.
  var stopped: TrainingError? {
    switch self.stop.withLock({ $0 }) {
    case .cancelled: TrainingError(.cancelled, "The job was cancelled.")
    case .interrupted: TrainingError(.interrupted, "Training is ending; the job goes on at its next start.")
    case nil: nil
    }
  }

  /// - Throws: ``stopped``.
  func check() throws { if let stopped { throw stopped } }

  /// Time for which a peer may be away, slow or busy before a job fails that has learned nothing yet.
  static let patience: Duration = .seconds(600)
  /// An attempt that took longer than any call without data may take got somewhere.
  private static let standstill = Peers.callTimeout * 2

  /// Asks a peer again while it is away, slow or busy: a restart of ingest or rollout must not cost a job.
  /// - Throws: what `body` throws last, ``patience`` after the first of the failures in a row; ``check()``.
  func retrying<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
    try await self.repeating(
      { error, time in
        guard let error = error as? RPCError else { return false }
        return [.unavailable, .resourceExhausted, .deadlineExceeded].contains(error.code)
          && time < Self.patience
      }, body)
  }

  /// Tries until it is done: what was learned is not lost because a peer is away, slow, busy or set up wrongly, or a disk full.
  /// - Parameters:
  ///   - mends: whether `body` makes or fetches anew what was damaged, or what a clock made too old.
  ///   - failed: told of each failure.
  /// - Throws: where it can never be done; ``check()``.
  func insisting<Result: Sendable>(
    mends: Bool = false, failed: @Sendable (any Error) -> Void, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    try await self.repeating(
      { error, _ in
        let passes = Self.mayPass(error) || mends && Self.isMendable(error)
        if passes { failed(error) }
        return passes
      }, body)
  }

  /// Whether the same may be done later: by a peer, or by a disk that does not give or take something now.
  static func mayPass(_ error: any Error) -> Bool {
    switch error {
    case let error as RPCError: ![.alreadyExists, .invalidArgument].contains(error.code)
    case let error as StorageError: [.diskFull, .fileSystem, .denied].contains(error.code)
    case let error as ArtifactError: [.diskFull, .fileSystem].contains(error.code)
    case let error as TrainingError: [.storage, .unavailable].contains(error.code)
    default: false
    }
  }

  /// Whether a model can be had anew, made from what was learned or fetched: it was damaged, or its time seems to be over, as
  /// where a clock jumps.
  static func isMendable(_ error: any Error) -> Bool {
    guard let code = (error as? ArtifactError)?.code else { return false }
    return code.isMended || code == .expired
  }

  /// - Parameter goesOn: with the error, and the time since the first of the failures in a row.
  private func repeating<Result: Sendable>(
    _ goesOn: (any Error, Duration) -> Bool, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    var firstFailure: ContinuousClock.Instant?
    var pause: Duration = .milliseconds(200)
    while true {
      try self.check()
      let began = ContinuousClock.now
      do {
        return try await body()
      } catch {
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
