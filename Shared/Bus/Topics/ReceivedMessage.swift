public import Schemas

/// A message as a subscriber gets it.
public struct ReceivedMessage: Sendable {
  public let topic: Topic
  /// The publisher's name; as its key proves where there are keys.
  public let publisher: String
  /// Counts the publisher's messages on this topic, from 1, anew each time the publisher starts.
  public let sequence: UInt64
  /// The publisher's wall clock, nanoseconds since 1970.
  public let publishedUnixNanos: UInt64
  /// The message, encoded.
  public let payload: ZeroMQBytes
  /// Who sent it, as its key proves; nil without keys.
  public let peer: PeerIdentity?
  /// Messages of this publisher and topic that were lost just before this one, as far as is known.
  public let missed: UInt64

  /// - Throws: ``BusError`` with code `malformed` where the payload is no such message.
  public func decode<Message: ProtobufMessage>(_: Message.Type) throws -> Message {
    do {
      return try self.payload.withUnsafeBytes { try Message(serializedBytes: $0) }
    } catch {
      throw BusError(
        .malformed, "A message on \(self.topic) from \(self.publisher) is no \(Message.protoMessageName).",
        cause: error)
    }
  }
}

/// Finds the gaps in the sequences of publishers; no I/O.
struct GapDetector: Sendable {
  private struct Source: Hashable, Sendable {
    let publisher: String
    let topic: Topic
  }

  private struct Position: Sendable {
    var session: UInt64
    var sequence: UInt64
  }

  /// So many sources are remembered, and as many that spoke before them. Names of a hostile publisher push out only who said
  /// nothing meanwhile.
  static let mostSources = 4096
  static let longestGap: UInt64 = 1 << 32
  private var recent: [Source: Position] = [:]
  private var before: [Source: Position] = [:]

  /// - Returns: how many messages are missing before this one; 0 for the first that is seen of a publisher.
  mutating func missed(publisher: String, topic: Topic, session: UInt64, sequence: UInt64) -> UInt64 {
    let source = Source(publisher: publisher, topic: topic)
    let last = self.recent[source] ?? self.before[source]
    if self.recent[source] == nil, self.recent.count >= Self.mostSources {
      (self.before, self.recent) = (self.recent, [:])
    }
    self.recent[source] = Position(session: session, sequence: sequence)
    guard let last else { return 0 }
    // A publisher that started anew counts from 1.
    let expected = last.session == session ? last.sequence &+ 1 : 1
    // No honest gap is that long, and sums of hostile ones must not overflow.
    return sequence > expected ? min(sequence - expected, Self.longestGap) : 0
  }
}
