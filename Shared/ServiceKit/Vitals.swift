public import Schemas
import Synchronization

/// The parts without which a service cannot do its work: its disk, its database. While one is broken, the health service says
/// NOT_SERVING, and ``Schemas/GetMetricsResponse`` says why.
public final class Vitals: Sendable {
  private struct State {
    var reasons: [String: String] = [:]
    var observer: (@Sendable (_ isServing: Bool) -> Void)?
  }

  private let state = Mutex(State())

  public init() {}

  /// Notes that a part does not work.
  /// - Parameters:
  ///   - part: e.g. "trial log"; one of a few.
  ///   - reason: what is wrong with it; the last one counts.
  public func fail(_ part: String, _ reason: String) { self.set(part, String(reason.prefix(500))) }

  /// Notes that a part works, again or still. Cheap: may be said after each success.
  public func recover(_ part: String) { self.set(part, nil) }

  /// Notes what is wrong with a part; nothing where it works.
  public func hold(_ part: String, _ reasons: [String]) {
    if reasons.isEmpty { self.recover(part) } else { self.fail(part, reasons.joined(separator: " ")) }
  }

  /// What does not work, by name.
  public var broken: [BrokenPart] {
    self.state.withLock { state in
      state.reasons.sorted { $0.key < $1.key }.map { BrokenPart(part: $0.key, reason: $0.value) }
    }
  }

  private func set(_ part: String, _ reason: String?) {
    self.state.withLock { state in
      let wasServing = state.reasons.isEmpty
      state.reasons[part] = reason
      // Told under the lock, so that the last word is the last one heard.
      if wasServing != state.reasons.isEmpty { state.observer?(state.reasons.isEmpty) }
    }
  }

  /// Tells the state now and at each change.
  func observe(_ observer: @escaping @Sendable (_ isServing: Bool) -> Void) {
    self.state.withLock { state in
      state.observer = observer
      observer(state.reasons.isEmpty)
    }
  }
}
