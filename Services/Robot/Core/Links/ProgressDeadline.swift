package import Storage
import Synchronization

/// When something last moved: what takes as long as its bytes and its link need has no fixed time, but it moves.
package final class ProgressWatch: Sendable {
  private let runtime: Runtime
  private let last: Mutex<ContinuousClock.Instant>

  init(runtime: Runtime) {
    self.runtime = runtime
    self.last = Mutex(runtime.now())
  }

  /// Something moved just now.
  package func moved() { self.last.withLock { $0 = self.runtime.now() } }

  var idle: Duration { self.runtime.now() - self.last.withLock { $0 } }
}

/// Does something, and gives it up once nothing has moved for `limit`.
/// - Parameters:
///   - what: e.g. "The upload of trial t1", for the message.
///   - body: calls ``ProgressWatch/moved()`` whenever it gets on; cancelled where it is given up.
/// - Throws: ``RobotError`` `.noProgress`; what `body` throws.
package func withProgressDeadline<Result: Sendable>(
  _ limit: Duration, runtime: Runtime, _ what: String,
  _ body: @escaping @Sendable (ProgressWatch) async throws -> Result
) async throws -> Result {
  let watch = ProgressWatch(runtime: runtime)
  return try await withThrowingTaskGroup(of: Result.self) { group in
    group.addTask { try await body(watch) }
    group.addTask {
      while true {
        let left = limit - watch.idle
        guard left > .zero else {
          throw RobotError(.noProgress, "\(what) did not get on for \(limit); it is tried again.")
        }
        try await runtime.sleep(for: left)
      }
    }
    defer { group.cancelAll() }
    guard let result = try await group.next() else { throw CancellationError() }
    return result
  }
}
