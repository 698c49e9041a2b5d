import GRPCCore
import Synchronization

/// The bytes of trials that are read to callers at once, by their length in the log, which is known before they are read. Decoded, a
/// trial takes about as much again.
///
/// What has no room waits in line: a job that reads a snapshot should not fail because others read as well. The line is as short
/// as ``OpenReads`` has places. Nobody overtakes one that waits for all others' bytes, so a large trial has its turn; one that waits
/// for its own caller's holds up nobody.
final class ReadBudget: Sendable {
  struct Limits: Sendable {
    /// Of all callers. A larger trial is read when nothing else is.
    var bytes = 128 << 20
    /// Of one caller; one trial alone may be larger.
    var callerBytes = 32 << 20
    /// How long one waits in line. Longer than the bus bears with a reader that does not read: 5/4 of `CallLimits.idleLimit`.
    var patience: Duration = .seconds(400)
  }

  private struct Waiter {
    var id: UInt64
    var caller: String
    var bytes: Int
    var continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var all = 0
    var callers: [String: Int] = [:]
    var line: [Waiter] = []
    var nextID: UInt64 = 0
  }

  private let limits: Limits
  private let state = Mutex(State())

  init(limits: Limits = .init()) { self.limits = limits }

  /// Bytes that are being read.
  var bytes: Int { self.state.withLock { $0.all } }
  /// Reads that wait in line.
  var waiting: Int { self.state.withLock { $0.line.count } }

  /// Runs `body` once there is room.
  /// - Parameters:
  ///   - caller: a key's name, or a connection's where there are no keys.
  ///   - bytes: length of the trial's record in the log.
  /// - Throws: `RPCError` RESOURCE_EXHAUSTED where there was none in time, `CancellationError`, and what `body` throws.
  func during<Result>(
    _ caller: String, bytes: Int, _ body: () async throws -> Result
  ) async throws -> Result {
    // Larger than all is as much as all.
    let bytes = min(bytes, self.limits.bytes)
    try await self.enter(caller, bytes)
    defer { self.leave(caller, bytes) }
    return try await body()
  }

  private func enter(_ caller: String, _ bytes: Int) async throws {
    let id = self.state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let waits = self.state.withLock { state in
          guard !Task.isCancelled else {
            continuation.resume(throwing: CancellationError())
            return false
          }
          state.line.append(Waiter(id: id, caller: caller, bytes: bytes, continuation: continuation))
          self.admit(&state)
          return state.line.contains { $0.id == id }
        }
        guard waits else { return }
        let patience = self.limits.patience
        Task { [weak self] in
          try? await Task.sleep(for: patience)
          self?.giveUp(id, Self.noRoom(bytes, patience))
        }
      }
    } onCancel: {
      self.giveUp(id, CancellationError())
    }
  }

  private func leave(_ caller: String, _ bytes: Int) {
    self.state.withLock { state in
      state.all -= bytes
      let left = state.callers[caller, default: bytes] - bytes
      state.callers[caller] = left == 0 ? nil : left
      self.admit(&state)
    }
  }

  /// Lets in, in order, whoever has room now.
  private func admit(_ state: inout State) {
    var stay: [Waiter] = []
    for (index, waiter) in state.line.enumerated() {
      let own = state.callers[waiter.caller, default: 0]
      if own > 0, own + waiter.bytes > self.limits.callerBytes {
        stay.append(waiter)
        continue
      }
      guard state.all + waiter.bytes <= self.limits.bytes else {
        stay += state.line[index...]
        break
      }
      state.all += waiter.bytes
      state.callers[waiter.caller] = own + waiter.bytes
      waiter.continuation.resume()
    }
    state.line = stay
  }

  private func giveUp(_ id: UInt64, _ error: any Error) {
    self.state.withLock { state in
      guard let index = state.line.firstIndex(where: { $0.id == id }) else { return }
      state.line.remove(at: index).continuation.resume(throwing: error)
      // Who waited behind it may have room.
      self.admit(&state)
    }
  }

  private static func noRoom(_ bytes: Int, _ patience: Duration) -> RPCError {
    RPCError(
      code: .resourceExhausted,
      message: "Other reads of trials left no room for one of \(bytes) bytes within "
        + "\(patience.components.seconds) s. End reads that you do not take from, or ask again later.")
  }
}
