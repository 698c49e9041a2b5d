import Synchronization

/// What goes on though nobody waits for it any more.
final class LateWork: Sendable {
  private let state = Mutex<[ObjectIdentifier: Wakeup]>([:])

  var isEmpty: Bool { self.state.withLock { $0.isEmpty } }

  /// It is done.
  func end(_ work: Wakeup) {
    self.state.withLock { late in
      late[ObjectIdentifier(work)] = nil
      // Under the lock: who leaves it later sees that it is done.
      work.notify()
    }
  }

  /// Nobody waits for it any more.
  /// - Parameter seen: its changes before it began.
  func leave(_ work: Wakeup, after seen: UInt64) {
    self.state.withLock { late in
      if work.changes == seen { late[ObjectIdentifier(work)] = work }
    }
  }
}
