package import Storage
import Synchronization

/// Events on their way to the monitor. It outlives every link: an event leaves once a link delivered it, or when too many
/// wait; then the oldest goes and is counted, one that matters less before any other.
package final class TelemetryOutbox<Event: Sendable>: Sendable {
  package static var bound: Int { 256 }

  /// Writes the events that wait, but for the minor ones, where they outlive the process.
  package typealias Keep = @Sendable ([Event]) throws(RobotError) -> Void

  private struct State {
    /// Oldest first, each with its number: that of what an earlier process left is not above 0.
    var events: [(number: Int, event: Event)] = []
    var nextNumber = 1
    /// Number of the last event that outlives the process.
    var lastKept = 0
    var dropped: UInt64 = 0
    /// Why the events that were written are not those that wait.
    var unkept: String?
  }

  private let runtime: Runtime
  private let isMinor: @Sendable (Event) -> Bool
  private let write: Keep?
  private let changed: Wakeup
  private let state: Mutex<State>
  private let writing: NewestWrite

  /// - Parameters:
  ///   - waiting: what an earlier process left, oldest first.
  ///   - isMinor: whether an event makes room for those that are not minor.
  ///   - keep: called whenever what is to be kept has changed; nil where nothing is.
  package init(
    runtime: Runtime = .system, waiting: [Event] = [],
    isMinor: @escaping @Sendable (Event) -> Bool = { _ in false }, keep: Keep? = nil
  ) {
    self.runtime = runtime
    self.isMinor = isMinor
    self.write = keep
    let left = waiting.suffix(Self.bound)
    self.state = Mutex(State(events: left.enumerated().map { ($0.offset + 1 - left.count, $0.element) }))
    self.changed = Wakeup(runtime: runtime)
    self.writing = NewestWrite("outbox", runtime: runtime)
  }

  /// Events that nobody took away before too many waited.
  package var dropped: UInt64 { self.state.withLock { $0.dropped } }
  /// Events that wait, oldest first.
  package var waiting: [Event] { self.state.withLock { $0.events.map(\.event) } }

  /// Why the events that outlive the process are not those that wait; nil where they are.
  package var unkept: String? { self.state.withLock { $0.unkept } }

  package func send(_ event: Event) { self.send { _ in event } }

  /// - Parameters:
  ///   - keeping: whether to write what outlives the process before this returns, rather than by ``keepAside()``.
  ///   - make: makes the event, given its number, which grows by 1 from 1.
  package func send(keeping: Bool = true, _ make: (_ number: UInt64) -> Event) {
    let event = self.state.withLock { state in
      let event = make(UInt64(state.nextNumber))
      state.events.append((state.nextNumber, event))
      state.nextNumber += 1
      if state.events.count > Self.bound {
        state.events.remove(at: state.events.firstIndex { self.isMinor($0.event) } ?? 0)
        state.dropped += 1
      }
      if self.write != nil, !self.isMinor(event) {
        state.lastKept = state.nextNumber - 1
        state.unkept = "the disk has not answered yet."
      }
      return event
    }
    if keeping, !self.isMinor(event) { self.keep() }
    self.changed.notify()
  }

  /// Hands events over, oldest first, until cancelled. Those that `deliver` does not take stay, and are tried again.
  /// - Parameters:
  ///   - count: events that are handed over at once, at most.
  ///   - belong: whether two events may be handed over at once.
  package func drain(
    atMost count: Int = 1, together belong: @Sendable (Event, Event) -> Bool = { _, _ in true },
    _ deliver: @Sendable ([Event]) async throws -> Void
  ) async {
    var backoff = Backoff(first: .milliseconds(100), longest: .seconds(5), runtime: self.runtime)
    while !Task.isCancelled {
      let seen = self.changed.changes
      let events = self.state.withLock { state in
        Array(state.events.prefix(count).prefix { belong(state.events[0].event, $0.event) })
      }
      guard let last = events.last else {
        await self.changed.wait(beyond: seen, atMost: .seconds(60))
        continue
      }
      do {
        try await deliver(events.map(\.event))
        await self.remove(upTo: last.number)
        backoff.reset()
      } catch {
        try? await self.runtime.sleep(for: backoff.next())
      }
    }
  }

  /// Meanwhile some may have been dropped, or another link may have taken them.
  private func remove(upTo number: Int) async {
    let removed = self.state.withLock { state in
      defer { state.events.removeAll { $0.number <= number } }
      return state.events.prefix { $0.number <= number }
    }
    if removed.contains(where: { !self.isMinor($0.event) }) { await self.keepAside() }
  }

  /// Writes what is to outlive the process. Where the disk refuses it, ``unkept`` says why, until a later call succeeds.
  package func keep() { self.writing { self.writeNow() } }

  /// ``keep()`` on a thread of its own: a disk that hangs holds up nothing else.
  package func keepAside() async { await self.writing.aside { self.writeNow() } }

  private func writeNow() -> Bool {
    guard let write = self.write else { return true }
    let (waiting, last) = self.state.withLock { ($0.events.map(\.event), $0.lastKept) }
    var failure: String?
    do throws(RobotError) {
      try write(waiting.filter { !self.isMinor($0) })
    } catch { failure = error.message }
    self.state.withLock { if failure != nil || $0.lastKept == last { $0.unkept = failure } }
    return failure == nil
  }
}
