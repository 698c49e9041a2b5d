import Schemas

/// Reads MCAP files as ``TrialLog`` writes them, trusting nothing.
enum LogScanner {
  struct Scan {
    /// Bytes up to the end of the last whole record.
    var goodBytes: Int
    var chunks: [TrialLog.ChunkEntry] = []
    var messages: UInt64 = 0
  }

  /// Whether a file ends as a sealed one does.
  static func isSealed(_ path: String) throws(TrialsError) -> Bool {
    let file = try LogFile(path: path)
    guard file.size > 2 * MCAP.magic.count + MCAP.recordOverhead else { return false }
    return try file.read(offset: file.size - MCAP.magic.count, count: MCAP.magic.count) == MCAP.magic
  }

  /// Walks the records of the data section up to its end or the first torn or damaged one.
  static func scan(_ file: LogFile) throws(TrialsError) -> Scan {
    var scan = Scan(goodBytes: 0)
    guard file.size >= MCAP.magic.count,
      try file.read(offset: 0, count: MCAP.magic.count) == MCAP.magic
    else { return scan }
    var offset = MCAP.magic.count
    scan.goodBytes = offset
    var pending: TrialLog.ChunkEntry?
    while offset + MCAP.recordOverhead <= file.size {
      var head = ByteReader(try file.read(offset: offset, count: MCAP.recordOverhead)[...])
      guard let code: UInt8 = head.integer(), let length: UInt64 = head.integer(),
        let opcode = MCAP.Opcode(rawValue: code), length <= UInt64(TrialLog.maximumChunk),
        offset + MCAP.recordOverhead + Int(length) <= file.size
      else { break }
      let total = MCAP.recordOverhead + Int(length)
      switch opcode {
      case .chunk:
        guard let entry = try Self.chunkEntry(file, offset: offset, length: total) else { return scan }
        pending = entry
      case .messageIndex:
        guard var entry = pending else { return scan }
        entry.indexLength = total
        scan.chunks.append(entry)
        scan.messages += (length - 6) / 16
        pending = nil
        scan.goodBytes = offset + total
      case .header, .schema, .channel: scan.goodBytes = offset + total
      // The summary of a half-sealed file is written anew.
      default: return scan
      }
      offset += total
    }
    return scan
  }

  /// How many chunks a file holds, by the heads of its records alone.
  static func countChunks(_ file: LogFile) throws(TrialsError) -> Int {
    var count = 0
    var offset = MCAP.magic.count
    while offset + MCAP.recordOverhead <= file.size {
      var head = ByteReader(try file.read(offset: offset, count: MCAP.recordOverhead)[...])
      guard let code: UInt8 = head.integer(), let length: UInt64 = head.integer(),
        length <= UInt64(TrialLog.maximumChunk), code != MCAP.Opcode.dataEnd.rawValue
      else { break }
      if code == MCAP.Opcode.chunk.rawValue { count += 1 }
      offset += MCAP.recordOverhead + Int(length)
    }
    return count
  }

  private static func chunkEntry(
    _ file: LogFile, offset: Int, length: Int
  ) throws(TrialsError) -> TrialLog.ChunkEntry? {
    let bytes = try file.read(offset: offset, count: length)
    guard let (entry, _) = Self.open(bytes, offset: offset) else { return nil }
    return entry
  }

  /// Checks a chunk record and returns its records.
  private static func open(_ bytes: [UInt8], offset: Int) -> (TrialLog.ChunkEntry, ArraySlice<UInt8>)? {
    var reader = ByteReader(bytes[...])
    guard reader.integer(UInt8.self) == MCAP.Opcode.chunk.rawValue, reader.integer(UInt64.self) != nil,
      let start: UInt64 = reader.integer(), let end: UInt64 = reader.integer(),
      let size: UInt64 = reader.integer(), let crc: UInt32 = reader.integer(), reader.string() == "",
      let count: UInt64 = reader.integer(), count == size, count <= UInt64(bytes.count),
      let records = reader.take(Int(count)), CRC32.checksum(records) == crc
    else { return nil }
    let entry = TrialLog.ChunkEntry(
      start: start, end: end, offset: offset, length: bytes.count, indexLength: 0, dataLength: Int(count))
    return (entry, records)
  }

  /// The trial in the chunk at an offset.
  static func trial(in file: LogFile, at offset: Int, length: Int) throws -> TrialRecord {
    guard let (_, records) = Self.open(try file.read(offset: offset, count: length), offset: offset) else {
      throw TrialsError(
        .corrupt, "The chunk at \(offset) of \(file.path) is damaged; restore the file from a copy.")
    }
    var reader = ByteReader(records)
    var events: [TrialEvent] = []
    while !reader.isAtEnd {
      guard let code: UInt8 = reader.integer(), let size: UInt64 = reader.integer(),
        size <= UInt64(records.count),
        let content = reader.take(Int(size)), code == MCAP.Opcode.message.rawValue, content.count >= 22
      else { throw TrialsError(.corrupt, "The chunk at \(offset) of \(file.path) holds a malformed record.") }
      events.append(try TrialEvent(serializedBytes: Array(content.dropFirst(22))))
    }
    return TrialRecord(events: events)
  }
}
