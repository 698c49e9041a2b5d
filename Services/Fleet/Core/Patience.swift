import GRPCCore
import Synchronization

/// Asks services that may be away for a while, as during a restart: what a command follows goes on without them.
package final class Patience: Sendable {
  /// Time for which a service may be away.
  static let longest: Duration = .seconds(600)
  /// Pause before a service that is away is asked again.
  static let pause: Duration = .seconds(1)

  private let progress: ProgressReport
  private let absences = Mutex(Duration.zero)

  init(progress: ProgressReport) { self.progress = progress }

  /// Time that was spent on services that were away and answer again, all calls together.
  var away: Duration { self.absences.withLock { $0 } }

  /// Makes a call until it is answered; says once that it waits, and once that it waits no more.
  /// - Parameters:
  ///   - service: its name, for people.
  ///   - call: has a deadline of its own, and may be made twice.
  /// - Throws: ``FleetError`` `.timedOut` where the service is away for too long; what else `call` throws.
  func ask<Answer: Sendable>(
    _ service: String, _ call: @Sendable () async throws -> Answer
  ) async throws -> Answer {
    var since: ContinuousClock.Instant?
    while true {
      let began = ContinuousClock.now
      do {
        let answer = try await call()
        if let since {
          self.absences.withLock { $0 += ContinuousClock.now - since }
          self.progress.line("\(service) answers again")
        }
        return answer
      } catch let error as RPCError where error.isAway {
        try Task.checkCancellation()
        if since == nil { self.progress.line("waiting for \(service) …") }
        let away = since ?? began
        since = away
        guard ContinuousClock.now - away < Self.longest else {
          throw FleetError(.timedOut, "\(service) was away for \(Self.longest): \(error.message)")
        }
        try await Task.sleep(for: Self.pause)
      }
    }
  }
}

extension RPCError {
  /// The server did not answer: it is down, restarts or hangs.
  var isAway: Bool { self.code == .unavailable || self.code == .deadlineExceeded }
}
