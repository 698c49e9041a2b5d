import Synchronization

/// The bytes of requests that wait for a model, for a worker or for their answer, by caller. The bus counts a message no more
/// once its handler took it.
///
/// The more is held, the less one caller may hold (the rule of `RobotShares` in ingest); the last quarter is for small first
/// requests of callers that hold nothing, so that one robot's large pictures do not refuse the others.
final class HeldRequests: Sendable {
  struct Limits: Sendable {
    /// Of one caller; two of the largest messages.
    var callerBytes = 64 << 20
    /// Of all callers.
    var bytes = 256 << 20

    /// What is there for callers that hold more.
    var common: Int { self.bytes - self.bytes / 4 }
    /// Bytes of a first request for which there is the last quarter.
    var littleBytes: Int { self.bytes / 64 }
  }

  private struct State {
    var all = 0
    var callers: [String: Int] = [:]
  }

  private let limits: Limits
  private let state = Mutex(State())

  init(limits: Limits = .init()) { self.limits = limits }

  /// Bytes of all callers.
  var bytes: Int { self.state.withLock { $0.all } }

  /// - Throws: ``InferenceError`` `.busy` where the caller, or all callers, hold too much.
  func take(_ bytes: Int, of caller: String) throws(InferenceError) {
    let shortage: String? = self.state.withLock { state in
      let own = state.callers[caller, default: 0]
      let (newOwn, newAll) = (own + bytes, state.all + bytes)
      if newOwn > self.limits.callerBytes {
        return "\(own) bytes of your requests wait here and this one has \(bytes); one caller may have "
          + "\(self.limits.callerBytes). Wait for answers before you ask again, or send smaller pictures."
      }
      let isLittle = own == 0 && bytes <= self.limits.littleBytes
      guard isLittle ? newAll <= self.limits.bytes : newOwn <= self.limits.common - newAll else {
        return
          "\(state.all) bytes of all callers' requests wait here, of \(self.limits.bytes), and you have your part "
          + "of them. Wait for answers before you ask again, or send smaller pictures."
      }
      state.callers[caller] = newOwn
      state.all = newAll
      return nil
    }
    if let shortage { throw InferenceError(.busy, shortage) }
  }

  /// Gives back what ``take(_:of:)`` took.
  func giveBack(_ bytes: Int, of caller: String) {
    self.state.withLock { state in
      state.all -= bytes
      let left = state.callers[caller, default: bytes] - bytes
      // Names come from outside: one that holds nothing is not remembered.
      state.callers[caller] = left == 0 ? nil : left
    }
  }
}
