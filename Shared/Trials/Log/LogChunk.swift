import Schemas

/// Where a chunk record lies in its file, and what a summary says about it. A chunk holds one trial.
struct LogChunk: Sendable, Hashable {
  /// Least and greatest log time of its messages, Unix nanoseconds.
  var start: UInt64
  var end: UInt64
  /// Of the whole record, in bytes.
  var offset: Int
  var length: Int
  /// Bytes of the message index that follows.
  var indexLength: Int
  /// Bytes of its records.
  var dataLength: Int
  var messages: Int

  /// Offset behind the message index, where the next chunk begins.
  var next: Int { self.offset + self.length + self.indexLength }
}

/// The bytes of a chunk record, checked: its CRC is right, and its records are messages of the log's one channel.
struct ChunkRecord {
  /// Opcode, length, start, end, size, CRC, compression and size before the records.
  static let headBytes = MCAP.recordOverhead + 40
  /// Channel, sequence and two times before a message's data.
  private static let messageHead = 22

  struct Message {
    var logTime: UInt64
    /// From the beginning of the chunk's records.
    var offset: UInt64
    var data: ArraySlice<UInt8>
  }

  let chunk: LogChunk
  let messages: [Message]

  /// Bytes of the whole record, where the head of one is at `bytes`; nil where it is none.
  static func length(head bytes: ArraySlice<UInt8>) -> Int? {
    var reader = ByteReader(bytes)
    guard reader.integer(UInt8.self) == MCAP.Opcode.chunk.rawValue,
      let content: UInt64 = reader.integer(), content >= 40, content <= UInt64(TrialLog.maximumChunk),
      reader.integer(UInt64.self) != nil, reader.integer(UInt64.self) != nil,
      reader.integer(UInt64.self) == content - 40, reader.integer(UInt32.self) != nil,
      // Our chunks are not compressed: the name of the compression is empty.
      reader.integer(UInt32.self) == 0, reader.integer(UInt64.self) == content - 40
    else { return nil }
    return MCAP.recordOverhead + Int(content)
  }

  /// Greatest log time that the head of a record at `bytes` names, Unix nanoseconds; nil where it is none.
  static func end(head bytes: ArraySlice<UInt8>) -> UInt64? {
    guard Self.length(head: bytes) != nil else { return nil }
    var reader = ByteReader(bytes.dropFirst(MCAP.recordOverhead + 8))
    return reader.integer()
  }

  /// - Parameter offset: of the record in its file.
  /// - Returns: nil where anything is not as it was written.
  init?(_ bytes: [UInt8], at offset: Int) {
    guard Self.length(head: bytes.prefix(Self.headBytes)) == bytes.count else { return nil }
    var head = ByteReader(bytes[MCAP.recordOverhead...])
    let records = bytes[Self.headBytes...]
    guard let start: UInt64 = head.integer(), let end: UInt64 = head.integer(),
      head.integer(UInt64.self) != nil, let crc: UInt32 = head.integer(),
      CRC32.checksum(records) == crc, let messages = Self.messages(in: records)
    else { return nil }
    self.messages = messages
    self.chunk = LogChunk(
      start: start, end: end, offset: offset, length: bytes.count, indexLength: 0,
      dataLength: records.count, messages: messages.count)
  }

  private static func messages(in records: ArraySlice<UInt8>) -> [Message]? {
    var reader = ByteReader(records)
    var messages: [Message] = []
    while !reader.isAtEnd {
      let offset = reader.position - records.startIndex
      guard reader.integer(UInt8.self) == MCAP.Opcode.message.rawValue, let size: UInt64 = reader.integer(),
        size >= UInt64(Self.messageHead), size <= UInt64(records.count), let content = reader.take(Int(size))
      else { return nil }
      var head = ByteReader(content)
      guard head.integer(UInt16.self) == TrialLog.channel, head.integer(UInt32.self) != nil,
        let logTime: UInt64 = head.integer()
      else { return nil }
      messages.append(
        Message(logTime: logTime, offset: UInt64(offset), data: content.dropFirst(Self.messageHead)))
    }
    return messages.isEmpty ? nil : messages
  }

  /// The message index that belongs behind the chunk: a function of its messages, so one that is damaged can be made anew.
  var index: [UInt8] {
    MCAP.messageIndex(channel: TrialLog.channel, entries: self.messages.map { ($0.logTime, $0.offset) })
  }

  /// When the trial was stored, Unix nanoseconds: the log time of its last event.
  var storedUnixNanos: Int64 { Int64(clamping: self.messages.last?.logTime ?? 0) }

  /// Whose trial it is. Nil where the first event is none.
  var name: TrialName? { self.messages.first.flatMap { Self.name($0.data) } }

  /// Whose trial a record says that it holds which is not as it was written; nil where it says nothing that can be read.
  static func claimedName(_ bytes: [UInt8]) -> TrialName? {
    var reader = ByteReader(bytes.dropFirst(Self.headBytes))
    guard reader.integer(UInt8.self) == MCAP.Opcode.message.rawValue, let size: UInt64 = reader.integer(),
      size <= UInt64(bytes.count), let content = reader.take(Int(size)),
      let name = Self.name(content.dropFirst(Self.messageHead)), !name.robot.isEmpty, !name.trialID.isEmpty
    else { return nil }
    return name
  }

  private static func name(_ event: ArraySlice<UInt8>) -> TrialName? {
    guard let event = try? TrialEvent(serializedBytes: Array(event)) else { return nil }
    return TrialName(robot: event.robot, trialID: event.trialID)
  }

  /// - Throws: `SchemaError` where a message is no event.
  func trial() throws -> TrialRecord {
    TrialRecord(events: try self.messages.map { try TrialEvent(serializedBytes: Array($0.data)) })
  }
}
