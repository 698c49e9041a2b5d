import Synchronization

/// Writes of something of which only the newest state counts: however many ask at once, nobody waits for more than two.
final class NewestWrite: Sendable {
  private let asked = Atomic<UInt64>(0)
  /// Callers whose state is written. Held while it is written, so that an older state never replaces a newer one.
  private let written = Mutex<UInt64>(0)

  /// Writes, unless another call has begun to write since this one was made.
  /// - Parameter write: takes the newest state and writes it. Returns false where that failed; who waits then tries it as well.
  func callAsFunction(_ write: () -> Bool) {
    let call = self.asked.add(1, ordering: .sequentiallyConsistent).newValue
    self.written.withLock { written in
      guard written < call else { return }
      // Whoever asked by now has changed the state already.
      let covered = self.asked.load(ordering: .sequentiallyConsistent)
      if write() { written = covered }
    }
  }
}
