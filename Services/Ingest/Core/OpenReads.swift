import GRPCCore
import Synchronization

/// How many callers are answered at once, with lists of trials or with trials. Each of the latter holds one whole trial in memory
/// from the log until its reader took it: what the bus queues for a peer is bounded there, what waits for a place in that queue
/// is bounded here and by ``ReadBudget``.
final class OpenReads: Sendable {
  /// Of all callers.
  static let limit = 16
  /// Of one caller, so that no one takes all places.
  static let limitPerCaller = 4
  /// What callers may take who have some already. The rest is for those who have none.
  static let common = limit - limit / 4

  private let open = Mutex<[String: Int]>([:])

  /// Runs `body` in one of the places.
  /// - Parameter caller: a key's name, or a connection's where there are no keys.
  /// - Throws: `RPCError` RESOURCE_EXHAUSTED where there is none, and what `body` throws.
  func during<Result>(_ caller: String, _ body: () async throws -> Result) async throws -> Result {
    try self.open.withLock { open in
      let (all, own) = (open.values.reduce(0, +), open[caller, default: 0])
      let limit = own == 0 ? Self.limit : Self.common
      guard all < limit, own < Self.limitPerCaller else {
        throw RPCError(
          code: .resourceExhausted,
          message:
            "\(all) calls like this one are open now, \(own) of them yours; at most \(Self.limit) may, "
            + "\(Self.limitPerCaller) of one caller, and the last \(Self.limit - Self.common) places are for callers that "
            + "have none. End one, or ask again later.")
      }
      open[caller] = own + 1
    }
    defer {
      self.open.withLock { open in
        let left = open[caller, default: 1] - 1
        open[caller] = left == 0 ? nil : left
      }
    }
    return try await body()
  }
}
