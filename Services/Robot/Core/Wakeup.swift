package import Storage
import Synchronization

/// Wakes tasks that wait for something to change. A change that comes before the wait is not missed: the waiter says
/// which change it has seen.
package final class Wakeup: Sendable {
  private struct Waiter {
    var continuation: CheckedContinuation<Void, Never>
    var timer: Task<Void, Never>?
  }

  private struct State {
    var changes: UInt64 = 0
    var nextWaiter: UInt64 = 0
    var waiters: [UInt64: Waiter] = [:]
  }

  private let runtime: Runtime
  private let state = Mutex(State())

  package init(runtime: Runtime = .system) { self.runtime = runtime }

  /// Number of changes so far; hand it to ``wait(beyond:atMost:)``.
  package var changes: UInt64 { self.state.withLock { $0.changes } }

  /// Tells every waiter that something changed.
  package func notify() {
    let waiters = self.state.withLock { state in
      state.changes += 1
      defer { state.waiters.removeAll() }
      // In the order in which they came, so that a run with the same seed is the same run.
      return state.waiters.sorted { $0.key < $1.key }.map(\.value)
    }
    for waiter in waiters { Self.resume(waiter) }
  }

  /// Returns at the first change after `seen`, when `timeout` has passed, or when the task is cancelled.
  package func wait(beyond seen: UInt64, atMost timeout: Duration) async {
    let id = self.state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let waits = self.state.withLock { state in
          // A cancellation that comes later finds the waiter.
          guard state.changes == seen, !Task.isCancelled else { return false }
          state.waiters[id] = Waiter(continuation: continuation)
          return true
        }
        guard waits else { return continuation.resume() }
        // Begun only now: a timer that fires before anybody waits would never fire again.
        let timer = Task(executorPreference: self.runtime.taskExecutor) {
          try? await self.runtime.sleep(for: timeout)
          self.resume(id)
        }
        let isOver = self.state.withLock { state in
          state.waiters[id]?.timer = timer
          return state.waiters[id] == nil
        }
        if isOver { timer.cancel() }
      }
    } onCancel: {
      self.resume(id)
    }
  }

  private func resume(_ id: UInt64) {
    let waiter = self.state.withLock { $0.waiters.removeValue(forKey: id) }
    if let waiter { Self.resume(waiter) }
  }

  private static func resume(_ waiter: Waiter) {
    waiter.timer?.cancel()
    waiter.continuation.resume()
  }
}
