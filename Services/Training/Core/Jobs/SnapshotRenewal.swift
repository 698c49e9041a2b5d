internal import GRPCCore
internal import Schemas
internal import Synchronization

/// Has a job's set of trials made again where ingest has lost it. Sets are named after their trials: the same ones have their
/// name again.
final class SnapshotRenewal: Sendable {
  private let peers: Peers
  private let missingPercent: Int
  private let pause: Duration
  private let refusal = Mutex<(error: RPCError, until: ContinuousClock.Instant)?>(nil)

  /// - Parameters:
  ///   - missingPercent: share of the trials that the new set may lack.
  ///   - pause: before ingest is asked again, which writes a list of all its trials each time.
  init(peers: Peers, missingPercent: Int, pause: Duration) {
    self.peers = peers
    self.missingPercent = missingPercent
    self.pause = pause
  }

  /// - Parameters:
  ///   - hasLearned: the job would lose what it has learned from `known`.
  ///   - error: why ingest does not give the set.
  /// - Throws: `RPCError`, with the code of `error`, where the new set is empty, or has fewer trials and something was learned:
  ///   ingest has the wrong folder rather, and the job waits for the right one.
  func renew(
    _ known: JobStore.Snapshot, _ query: TrialQuery, hasLearned: Bool, after error: RPCError
  ) async throws -> DatasetSnapshot {
    try self.refusal.withLock { if let refusal = $0, refusal.until > .now { throw refusal.error } }
    let again = try await self.peers.snapshot(of: query)
    let isRefused = again.trials == 0 || hasLearned && !self.isEnough(again, known)
    guard again.snapshotID != known.id, isRefused else { return again }
    let before = known.trials.map { " where it had \($0)" } ?? ""
    let text =
      "Ingest has lost the set of trials that the job learns from, and has \(again.trials)\(before): \(error.message) "
      + "See that it has the right folder, or cancel the job and start another with the trials that there are."
    let refused = RPCError(code: error.code, message: text)
    self.refusal.withLock { $0 = (refused, .now + self.pause) }
    throw refused
  }

  private func isEnough(_ again: DatasetSnapshot, _ known: JobStore.Snapshot) -> Bool {
    guard let before = known.trials.map(Int.init) else { return true }
    return Int(clamping: again.trials)
      >= before - MissingTrials.allowed(of: before, percent: self.missingPercent)
  }
}
