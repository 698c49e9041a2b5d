import Synchronization

/// Wakes tasks that wait for something to change. A change that comes before the wait is not missed: the waiter says
/// which change it has seen.
package final class Wakeup: Sendable {
  private struct State {
    var changes: UInt64 = 0
    var nextWaiter: UInt64 = 0
    var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
  }

  private let state = Mutex(State())

  package init() {}

  /// Number of changes so far; hand it to ``wait(beyond:atMost:)``.
  package var changes: UInt64 { self.state.withLock { $0.changes } }

  /// Tells every waiter that something changed.
  package func notify() {
    let waiters = self.state.withLock { state in
      state.changes += 1
      defer { state.waiters.removeAll() }
      return Array(state.waiters.values)
    }
    for waiter in waiters { waiter.resume() }
  }

  /// Returns at the first change after `seen`, when `timeout` has passed, or when the task is cancelled.
  package func wait(beyond seen: UInt64, atMost timeout: Duration) async {
    let id = self.state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    let sleeper = Task {
      try? await Task.sleep(for: timeout)
      self.resume(id)
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let ready = self.state.withLock { state in
          // Cancelled before it got here: the handler below has run already and found nobody.
          guard state.changes == seen, !Task.isCancelled, !sleeper.isCancelled else { return true }
          state.waiters[id] = continuation
          return false
        }
        if ready { continuation.resume() }
      }
    } onCancel: {
      sleeper.cancel()
    }
    sleeper.cancel()
  }

  private func resume(_ id: UInt64) {
    self.state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
  }
}
