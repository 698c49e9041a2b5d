import Synchronization

/// What the bus counted in this process since it started.
public enum BusMetrics {
  public enum Counter: String, Sendable, CaseIterable {
    /// Peers whose key was not accepted.
    case handshakesRefused = "bus_handshakes_refused_total"
    /// Peers whose key was not known and that waited for another look at the keys.
    case handshakesHeld = "bus_handshakes_held_total"
    /// Calls and messages that a peer's role or name does not allow.
    case turnedAway = "bus_turned_away_total"
    /// Frames that are no frames of the bus.
    case malformed = "bus_malformed_frames_total"
    /// Frames above the size limit.
    case tooLarge = "bus_too_large_total"
    /// Calls turned down because as many as allowed were open.
    case callsRejected = "bus_calls_rejected_total"
    /// Calls ended because their peer, or all peers, had too much here that was not dealt with.
    case unreadRejected = "bus_unread_rejected_total"
    /// Times a handler's message waited because its peer, or all peers, had not read what was sent.
    case writesHeld = "bus_writes_held_total"
    /// Refusals that were not sent to a peer that reads none.
    case refusalsDropped = "bus_refusals_dropped_total"
    /// Calls ended because neither side said anything.
    case callsIdle = "bus_calls_idle_total"
    /// Calls and connections of publishers ended because their key was revoked.
    case revoked = "bus_revoked_total"
    /// Connections ended because they subscribed to more than allowed.
    case subscriptionsRefused = "bus_subscriptions_refused_total"
    /// Connections that could not be accepted, as for lack of descriptors.
    case acceptFailed = "bus_accept_failed_total"
    /// Times a folder of keys could not be read.
    case keysUnreadable = "bus_keys_unreadable_total"
    case callsStarted = "bus_calls_started_total"
    /// Calls ended by their deadline, in the server.
    case deadlinesExpired = "bus_deadlines_expired_total"
    /// Calls whose client went away or cancelled.
    case callsCancelled = "bus_calls_cancelled_total"
    /// Frames that came after their call had ended.
    case lateFrames = "bus_late_frames_total"
    case published = "bus_published_total"
    /// Messages that a publisher dropped because its queue stayed full.
    case publishDropped = "bus_publish_dropped_total"
    case received = "bus_received_total"
    /// Published messages that a subscriber knows it did not get.
    case missed = "bus_missed_total"
    /// Times a connection was lost.
    case disconnects = "bus_disconnects_total"
  }

  private static let counts = Mutex([UInt64](repeating: 0, count: Counter.allCases.count))
  private static let positions: [Counter: Int] = Dictionary(
    uniqueKeysWithValues: Counter.allCases.enumerated().map { ($1, $0) })

  static func count(_ counter: Counter, _ amount: UInt64 = 1) {
    guard let position = Self.positions[counter] else { return }
    Self.counts.withLock { $0[position] &+= amount }
  }

  /// Every counter by its metric name.
  public static func snapshot() -> [String: UInt64] {
    let values = Self.counts.withLock { $0 }
    return Dictionary(uniqueKeysWithValues: zip(Counter.allCases.map(\.rawValue), values))
  }
}
