/// Reads trials out of MCAP files by the format alone, without the code under simulation.
enum LogReading {
  /// The events of one trial, encoded, in the order of the file.
  typealias Messages = [[UInt8]]

  struct Chunk {
    var messages: Messages
    /// Of its record, in bytes of the file.
    var range: Range<Int>

    /// Whether damage may have taken its trial: its times, which stand behind opcode and length, are no part of that.
    func isHarmed(by damaged: [Range<Int>]) -> Bool {
      let times = self.range.lowerBound + 9..<self.range.lowerBound + 25
      return damaged.contains {
        $0.overlaps(self.range) && !($0.lowerBound >= times.lowerBound && $0.upperBound <= times.upperBound)
      }
    }
  }

  /// The chunks of a file up to where its records end, whole or not.
  static func chunks(of file: [UInt8]) -> [Chunk] {
    var chunks: [Chunk] = []
    // Magic, then records: opcode, length of 8 bytes, content.
    var offset = 8
    while let record = Self.record(at: offset, in: file[...]) {
      if record.opcode == 6, let messages = Self.messages(in: record.content) {
        chunks.append(Chunk(messages: messages, range: offset..<record.content.endIndex))
      }
      offset = record.content.endIndex
    }
    return chunks
  }

  /// Names of the files that make up the log; what else lies there was put aside.
  static func isLogFile(_ name: String) -> Bool {
    let parts = name.split(separator: "-", maxSplits: 1)
    guard parts.count == 2, parts[0] == "trials", parts[1].hasSuffix(".mcap") else { return false }
    let digits = parts[1].dropLast(5)
    return digits.count == 8 && digits.allSatisfy(\.isNumber)
  }

  private static func record(
    at offset: Int, in bytes: ArraySlice<UInt8>
  ) -> (opcode: UInt8, content: ArraySlice<UInt8>)? {
    guard bytes.endIndex - offset >= 9, let length = Self.integer(8, at: offset + 1, in: bytes),
      length <= bytes.endIndex - offset - 9
    else { return nil }
    return (bytes[offset], bytes[offset + 9..<offset + 9 + length])
  }

  /// Content of a chunk: start, end, size, CRC, compression, records.
  private static func messages(in chunk: ArraySlice<UInt8>) -> Messages? {
    let compression = chunk.startIndex + 28
    guard let name = Self.integer(4, at: compression, in: chunk), name == 0 else { return nil }
    var messages: Messages = []
    var offset = compression + 4 + 8
    while let record = Self.record(at: offset, in: chunk) {
      // Channel, sequence, two times, then the message. Anything else is what a torn write left of two chunks.
      guard record.opcode == 5, record.content.count >= 22 else { return nil }
      messages.append(Array(record.content.dropFirst(22)))
      offset = record.content.endIndex
    }
    return offset == chunk.endIndex ? messages : nil
  }

  private static func integer(_ size: Int, at offset: Int, in bytes: ArraySlice<UInt8>) -> Int? {
    guard offset >= bytes.startIndex, offset + size <= bytes.endIndex else { return nil }
    let value = (0..<size).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[offset + $1]) }
    return Int(exactly: value)
  }
}
