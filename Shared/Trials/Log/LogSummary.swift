import Schemas

/// What stands behind the data of a sealed file: the index of its chunks, statistics and the footer.
struct LogSummary {
  /// Footer record and magic.
  private static let tailBytes = MCAP.recordOverhead + 20 + MCAP.magic.count
  /// Summary above which a file is scanned instead: far more than the index of any file that is written.
  private static let maximumBytes = 256 << 20

  /// Where the data section ends.
  var dataEnd: Int
  var chunks: [LogChunk]

  /// Bytes that seal a file of `size` bytes.
  static func tail(_ chunks: [LogChunk], at size: Int, schema: [UInt8]) -> [UInt8] {
    var summary = schema
    for chunk in chunks { summary += Self.chunkIndex(chunk) }
    summary += Self.statistics(chunks)
    let start = UInt64(size + MCAP.dataEnd().count)
    return MCAP.dataEnd() + summary + MCAP.footer(summaryStart: start, summary: summary) + MCAP.magic
  }

  /// The summary of a file that is sealed, and whole and readable at its end; nil for any other.
  static func read(_ file: LogFile) throws(TrialsError) -> LogSummary? {
    let dataEndBytes = MCAP.dataEnd().count
    guard file.size >= MCAP.magic.count + dataEndBytes + Self.tailBytes else { return nil }
    let tailStart = file.size - Self.tailBytes
    guard let tail = try file.readUnlessBad(at: tailStart, count: Self.tailBytes) else { return nil }
    var footer = ByteReader(tail[...])
    guard Array(tail.suffix(MCAP.magic.count)) == MCAP.magic,
      footer.integer(UInt8.self) == MCAP.Opcode.footer.rawValue, footer.integer(UInt64.self) == 20,
      let start: UInt64 = footer.integer(), footer.integer(UInt64.self) != nil,
      let crc: UInt32 = footer.integer(),
      start >= UInt64(MCAP.magic.count + dataEndBytes), start <= UInt64(tailStart),
      tailStart - Int(start) <= Self.maximumBytes
    else { return nil }
    let dataEnd = Int(start) - dataEndBytes
    // Files of earlier versions carry no CRC of their summary: 0.
    guard let summary = try file.readUnlessBad(at: Int(start), count: tailStart - Int(start)),
      crc == 0 || crc == CRC32.checksum(summary + tail.prefix(MCAP.recordOverhead + 16)),
      try file.readUnlessBad(at: dataEnd, count: dataEndBytes) == MCAP.dataEnd(),
      let chunks = Self.chunks(in: summary, dataEnd: dataEnd)
    else { return nil }
    return LogSummary(dataEnd: dataEnd, chunks: chunks)
  }

  private static func chunks(in summary: [UInt8], dataEnd: Int) -> [LogChunk]? {
    var reader = ByteReader(summary[...])
    var chunks: [LogChunk] = []
    while !reader.isAtEnd {
      guard let opcode: UInt8 = reader.integer(), let length: UInt64 = reader.integer(),
        length <= UInt64(summary.count), let content = reader.take(Int(length))
      else { return nil }
      guard opcode == MCAP.Opcode.chunkIndex.rawValue else { continue }
      guard let chunk = Self.chunk(content), chunk.offset >= chunks.last?.next ?? 0,
        chunk.offset <= dataEnd, chunk.length <= dataEnd - chunk.offset
      else { return nil }
      chunks.append(chunk)
    }
    return chunks
  }

  private static func chunk(_ content: ArraySlice<UInt8>) -> LogChunk? {
    let limit = UInt64(1) << 48
    var reader = ByteReader(content)
    guard let start: UInt64 = reader.integer(), let end: UInt64 = reader.integer(),
      let offset: UInt64 = reader.integer(), offset < limit, let length: UInt64 = reader.integer(),
      length <= UInt64(TrialLog.maximumChunk + MCAP.recordOverhead), reader.integer(UInt32.self) == 10,
      reader.integer(UInt16.self) == TrialLog.channel, reader.integer(UInt64.self) != nil,
      let indexLength: UInt64 = reader.integer(), indexLength < limit, reader.string() == "",
      let dataLength: UInt64 = reader.integer(), dataLength <= length
    else { return nil }
    let indexHead = MCAP.messageIndex(channel: TrialLog.channel, entries: []).count
    return LogChunk(
      start: start, end: end, offset: Int(offset), length: Int(length), indexLength: Int(indexLength),
      dataLength: Int(dataLength), messages: max(0, Int(indexLength) - indexHead) / 16)
  }

  private static func chunkIndex(_ chunk: LogChunk) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(chunk.start)
    writer.integer(chunk.end)
    writer.integer(UInt64(chunk.offset))
    writer.integer(UInt64(chunk.length))
    writer.integer(UInt32(10))
    writer.integer(TrialLog.channel)
    writer.integer(UInt64(chunk.offset + chunk.length))
    writer.integer(UInt64(chunk.indexLength))
    writer.string("")
    writer.integer(UInt64(chunk.dataLength))
    writer.integer(UInt64(chunk.dataLength))
    return MCAP.record(.chunkIndex, writer.bytes)
  }

  private static func statistics(_ chunks: [LogChunk]) -> [UInt8] {
    let messages = UInt64(chunks.reduce(0) { $0 + $1.messages })
    var writer = ByteWriter()
    writer.integer(messages)
    writer.integer(UInt16(1))
    writer.integer(UInt32(1))
    writer.integer(UInt32(0))
    writer.integer(UInt32(0))
    writer.integer(UInt32(chunks.count))
    writer.integer(chunks.map(\.start).min() ?? 0)
    writer.integer(chunks.map(\.end).max() ?? 0)
    writer.integer(UInt32(10))
    writer.integer(TrialLog.channel)
    writer.integer(messages)
    return MCAP.record(.statistics, writer.bytes)
  }
}
