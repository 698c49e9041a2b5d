import Synchronization

/// Counters that outlive the process: counted in memory, and written with the index. A crash takes what was counted since.
final class Counters: Sendable {
  private struct State {
    var values: [String: Int]
    var written: [String: Int]
  }

  private let state: Mutex<State>

  /// - Parameter values: as they were last written.
  init(_ values: [String: Int]) { self.state = Mutex(State(values: values, written: values)) }

  func increment(_ name: String) { self.state.withLock { $0.values[name, default: 0] += 1 } }

  func value(_ name: String) -> Int { self.state.withLock { $0.values[name, default: 0] } }

  /// Those that have changed since they were written, as they are now.
  var changes: [String: Int] {
    self.state.withLock { state in state.values.filter { state.written[$0.key] != $0.value } }
  }

  /// Nothing of them is kept any more but in memory.
  func lost() { self.state.withLock { $0.written = [:] } }

  func wrote(_ values: [String: Int]) {
    self.state.withLock { $0.written.merge(values) { _, new in new } }
  }
}
