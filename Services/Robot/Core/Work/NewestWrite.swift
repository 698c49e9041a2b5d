import Storage
import Synchronization

/// Writes of something of which only the newest state counts: however many ask at once, nobody waits for more than two.
final class NewestWrite: Sendable {
  private let asked = Atomic<UInt64>(0)
  /// Callers whose state is written. Held while it is written, so that an older state never replaces a newer one.
  private let written = Mutex<UInt64>(0)
  private let thread: Aside

  /// - Parameter label: what a debugger calls the thread of ``aside(_:)``.
  init(_ label: String, runtime: Runtime) {
    self.thread = Aside(executor: runtime.makeSerialExecutor("fleetloop.robot.\(label)"))
  }

  /// Writes here, unless another call has begun to write since this one was made.
  /// - Parameter write: takes the newest state and writes it. Returns false where that failed; who waits then tries it as well.
  func callAsFunction(_ write: () -> Bool) { self.write(for: self.ask(), write) }

  /// The same on a thread of its own: where the disk hangs, nobody does but who waits for this.
  func aside(_ write: @escaping @Sendable () -> Bool) async {
    let call = self.ask()
    await self.thread.run { self.write(for: call, write) }
  }

  private func ask() -> UInt64 { self.asked.add(1, ordering: .sequentiallyConsistent).newValue }

  private func write(for call: UInt64, _ write: () -> Bool) {
    self.written.withLock { written in
      guard written < call else { return }
      // Whoever asked by now has changed the state already.
      let covered = self.asked.load(ordering: .sequentiallyConsistent)
      if write() { written = covered }
    }
  }

  private actor Aside {
    private let executor: any SerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

    init(executor: any SerialExecutor) { self.executor = executor }

    func run(_ body: @Sendable () -> Void) { body() }
  }
}
