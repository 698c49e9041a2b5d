import GRPCCore
import Synchronization

/// How many callers are read trials to at once. Each holds one whole trial in memory (up to the largest message, usually
/// 8 MB) from the log until its reader took it: what the bus queues for a peer is bounded there, what waits for a place
/// in that queue is bounded here.
final class OpenReads: Sendable {
  /// Of all callers.
  static let limit = 16
  /// Of one caller with a key, so that no one takes all places.
  static let limitPerCaller = 4

  private let open = Mutex<[String: Int]>([:])

  /// Runs `body` in one of the places.
  /// - Throws: `RPCError` RESOURCE_EXHAUSTED where there is none, and what `body` throws.
  func during(_ caller: String?, _ body: () async throws -> Void) async throws {
    let name = caller ?? ""
    try self.open.withLock { open in
      let all = open.values.reduce(0, +)
      guard all < Self.limit, caller == nil || open[name, default: 0] < Self.limitPerCaller else {
        throw RPCError(
          code: .resourceExhausted,
          message: "\(all) calls read trials now, \(open[name, default: 0]) of them yours; at most "
            + "\(Self.limit) may, \(Self.limitPerCaller) of one caller. End one, or ask again later.")
      }
      open[name, default: 0] += 1
    }
    defer {
      self.open.withLock { open in
        let left = open[name, default: 1] - 1
        open[name] = left == 0 ? nil : left
      }
    }
    try await body()
  }
}
