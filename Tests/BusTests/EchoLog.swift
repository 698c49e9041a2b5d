import Bus
import Dispatch
import GRPCCore
import Synchronization

/// What handlers noted, for tests to wait on.
final class EchoLog: Sendable {
  private let notes = Mutex<[String: Int]>([:])
  /// What handlers of `block` wait for, with their thread.
  let gate = DispatchSemaphore(value: 0)
  private let hasSpunEnough = Atomic<Bool>(false)

  func note(_ text: String) { self.notes.withLock { $0[text, default: 0] += 1 } }
  func count(_ text: String) -> Int { self.notes.withLock { $0[text] ?? 0 } }

  /// Keeps the thread busy until ``endSpinning()``.
  func spin() { while !self.hasSpunEnough.load(ordering: .relaxed) {} }
  func endSpinning() { self.hasSpunEnough.store(true, ordering: .relaxed) }

  /// Waits until something was noted.
  /// - Returns: false after `limit`.
  func waits(for text: String, limit: Duration = .seconds(60)) async -> Bool {
    await eventually(within: limit) { self.count(text) > 0 }
  }
}

/// Asks until the answer is yes.
/// - Returns: false after `limit`.
func eventually(within limit: Duration = .seconds(60), _ condition: () async -> Bool) async -> Bool {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))
  }
  return await condition()
}

func identityText(_ context: ServerContext) -> String {
  "\(context.peerIdentity?.description ?? "nobody") \(PeerIdentity.current?.description ?? "nobody")"
}
