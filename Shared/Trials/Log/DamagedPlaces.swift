import Schemas

/// Divides bytes that hold no good chunk by the trials that were there, as far as heads tell: damage is noted, and a trial named,
/// for each of them.
struct DamagedPlaces {
  /// Places that damaged bytes are divided into at most; the last is what is left then.
  private static let maximum = 1_024
  /// Bytes that are read at once where the next head is searched for.
  private static let window = 1 << 20
  /// Bytes of a message index before its entries.
  private static let indexHead = MCAP.messageIndex(channel: TrialLog.channel, entries: []).count

  let file: LogFile

  /// A chunk whose head still says how long it is is a place to its last byte; anything else reaches to the next head. What is too
  /// small for a trial is left out, and so are a summary and a write that says it is longer than the file.
  func places(in bytes: Range<Int>) throws(TrialsError) -> [Range<Int>] {
    var places: [Range<Int>] = []
    var start = bytes.lowerBound
    while start < bytes.upperBound {
      guard places.count < Self.maximum - 1 else {
        places.append(start..<bytes.upperBound)
        break
      }
      if let length = try self.length(at: start) {
        if length > self.file.size - start, bytes.upperBound == self.file.size { break }
        if length <= bytes.upperBound - start {
          places.append(start..<start + length)
          start += length
          start += try self.indexLength(at: start, until: bytes.upperBound)
          continue
        }
      } else if try self.isDataEnd(at: start) {
        break
      }
      let end = try self.nextHead(from: start + 1, until: bytes.upperBound) ?? bytes.upperBound
      places.append(start..<end)
      start = end
    }
    return places.filter(TrialLog.mayHoldTrial)
  }

  /// Of the chunk whose head stands at an offset, as that says; nil where none does.
  func length(at offset: Int) throws(TrialsError) -> Int? {
    guard self.file.size - offset >= ChunkRecord.headBytes,
      let head = try self.file.readUnlessBad(at: offset, count: ChunkRecord.headBytes)
    else { return nil }
    return ChunkRecord.length(head: head[...])
  }

  /// Bytes of the message index at an offset, as far as they are there; 0 where none is.
  func indexLength(at offset: Int, until end: Int) throws(TrialsError) -> Int {
    guard end - offset >= Self.indexHead,
      let bytes = try self.file.readUnlessBad(at: offset, count: Self.indexHead)
    else { return 0 }
    var head = ByteReader(bytes[...])
    guard head.integer(UInt8.self) == MCAP.Opcode.messageIndex.rawValue, let length: UInt64 = head.integer(),
      head.integer(UInt16.self) == TrialLog.channel, let entries: UInt32 = head.integer(),
      length == UInt64(entries) + 6
    else { return 0 }
    return min(MCAP.recordOverhead + Int(length), end - offset)
  }

  func isDataEnd(at offset: Int) throws(TrialsError) -> Bool {
    let dataEnd = MCAP.dataEnd()
    guard self.file.size - offset >= dataEnd.count else { return false }
    return try self.file.readUnlessBad(at: offset, count: dataEnd.count) == dataEnd
  }

  private func nextHead(from start: Int, until end: Int) throws(TrialsError) -> Int? {
    var start = start
    while end - start >= ChunkRecord.headBytes {
      let bytes = try self.file.readAroundBad(at: start, count: min(Self.window, end - start))
      let heads = bytes.count - ChunkRecord.headBytes + 1
      let found = LogScanner.candidates(in: bytes, heads: heads).first {
        ChunkRecord.length(head: bytes[$0..<$0 + ChunkRecord.headBytes]) != nil
      }
      if let found { return start + found }
      start += heads
    }
    return nil
  }
}
