import Foundation

/// Records of the MCAP container format, version 0 (mcap.dev/spec). Little-endian throughout.
enum MCAP {
  static let magic: [UInt8] = [0x89, 0x4D, 0x43, 0x41, 0x50, 0x30, 0x0D, 0x0A]

  enum Opcode: UInt8 {
    case header = 0x01, footer = 0x02, schema = 0x03, channel = 0x04, message = 0x05, chunk = 0x06
    case messageIndex = 0x07, chunkIndex = 0x08, statistics = 0x0B, summaryOffset = 0x0E, dataEnd = 0x0F
  }

  /// Opcode and length before each record's content.
  static let recordOverhead = 9

  static func record(_ opcode: Opcode, _ content: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.bytes.reserveCapacity(content.count + Self.recordOverhead)
    writer.integer(opcode.rawValue)
    writer.integer(UInt64(content.count))
    writer.bytes += content
    return writer.bytes
  }

  static func header(profile: String, library: String) -> [UInt8] {
    var writer = ByteWriter()
    writer.string(profile)
    writer.string(library)
    return Self.record(.header, writer.bytes)
  }

  static func schema(id: UInt16, name: String, encoding: String, data: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(id)
    writer.string(name)
    writer.string(encoding)
    writer.integer(UInt32(data.count))
    writer.bytes += data
    return Self.record(.schema, writer.bytes)
  }

  static func channel(id: UInt16, schema: UInt16, topic: String, encoding: String) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(id)
    writer.integer(schema)
    writer.string(topic)
    writer.string(encoding)
    writer.integer(UInt32(0))
    return Self.record(.channel, writer.bytes)
  }

  /// - Parameters:
  ///   - logTime: when it was recorded, Unix nanoseconds; readers sort by it.
  ///   - publishTime: when it was made, Unix nanoseconds.
  static func message(
    channel: UInt16, sequence: UInt32, logTime: UInt64, publishTime: UInt64, data: [UInt8]
  ) -> [UInt8] {
    var writer = ByteWriter()
    writer.bytes.reserveCapacity(data.count + 31)
    writer.integer(Opcode.message.rawValue)
    writer.integer(UInt64(data.count + 22))
    writer.integer(channel)
    writer.integer(sequence)
    writer.integer(logTime)
    writer.integer(publishTime)
    writer.bytes += data
    return writer.bytes
  }

  /// An uncompressed chunk of records.
  static func chunk(start: UInt64, end: UInt64, records: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.bytes.reserveCapacity(records.count + 64)
    writer.integer(Opcode.chunk.rawValue)
    writer.integer(UInt64(records.count + 40))
    writer.integer(start)
    writer.integer(end)
    writer.integer(UInt64(records.count))
    writer.integer(CRC32.checksum(records))
    writer.string("")
    writer.integer(UInt64(records.count))
    writer.bytes += records
    return writer.bytes
  }

  static func messageIndex(channel: UInt16, entries: [(time: UInt64, offset: UInt64)]) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(channel)
    writer.integer(UInt32(entries.count * 16))
    for entry in entries {
      writer.integer(entry.time)
      writer.integer(entry.offset)
    }
    return Self.record(.messageIndex, writer.bytes)
  }

  static func dataEnd() -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(UInt32(0))
    return Self.record(.dataEnd, writer.bytes)
  }

  /// The footer behind a summary, with the CRC of both.
  static func footer(summaryStart: UInt64, summary: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(Opcode.footer.rawValue)
    writer.integer(UInt64(20))
    writer.integer(summaryStart)
    writer.integer(UInt64(0))
    writer.integer(CRC32.checksum(summary + writer.bytes))
    return writer.bytes
  }
}

/// Appends little-endian numbers and length-prefixed text.
struct ByteWriter {
  var bytes: [UInt8] = []

  mutating func integer<Number: FixedWidthInteger>(_ number: Number) {
    withUnsafeBytes(of: number.littleEndian) { self.bytes.append(contentsOf: $0) }
  }

  mutating func string(_ text: String) {
    self.integer(UInt32(text.utf8.count))
    self.bytes += text.utf8
  }
}

/// Reads what ``ByteWriter`` writes; every read is checked against the end.
struct ByteReader {
  private let bytes: ArraySlice<UInt8>
  private(set) var position: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    self.position = bytes.startIndex
  }

  var isAtEnd: Bool { self.position >= self.bytes.endIndex }

  mutating func integer<Number: FixedWidthInteger>(_: Number.Type = Number.self) -> Number? {
    let size = MemoryLayout<Number>.size
    guard let slice = self.take(size) else { return nil }
    return slice.reversed().reduce(into: Number.zero) { $0 = ($0 << 8) | Number(truncatingIfNeeded: $1) }
  }

  mutating func string() -> String? {
    guard let count: UInt32 = self.integer(), let slice = self.take(Int(count)) else { return nil }
    return String(validating: slice, as: UTF8.self)
  }

  mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
    guard count >= 0, count <= self.bytes.endIndex - self.position else { return nil }
    defer { self.position += count }
    return self.bytes[self.position..<self.position + count]
  }
}

/// CRC-32 (IEEE 802.3, reflected 0xEDB88320), as MCAP asks for it.
public enum CRC32 {
  /// Eight tables: a byte each of eight at once ("slicing by 8").
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for index in 0..<256 {
      tables[index] = (0..<8).reduce(UInt32(index)) { crc, _ in
        crc & 1 == 1 ? 0xEDB8_8320 ^ (crc >> 1) : crc >> 1
      }
    }
    for index in 256..<(8 * 256) {
      let previous = tables[index - 256]
      tables[index] = tables[Int(previous & 0xFF)] ^ (previous >> 8)
    }
    return tables
  }()

  public static func checksum(_ bytes: some Collection<UInt8>) -> UInt32 {
    bytes.withContiguousStorageIfAvailable { Self.checksum($0) } ?? Self.checksum(Array(bytes))
  }

  static func checksum(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt32 {
    var crc: UInt32 = 0xFFFF_FFFF
    Self.tables.withUnsafeBufferPointer { tables in
      var index = 0
      while index + 8 <= bytes.count {
        let low =
          crc
          ^ (UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 | UInt32(bytes[index + 2]) << 16
            | UInt32(bytes[index + 3]) << 24)
        crc =
          tables[1792 + Int(low & 0xFF)] ^ tables[1536 + Int(low >> 8 & 0xFF)]
          ^ tables[1280 + Int(low >> 16 & 0xFF)] ^ tables[1024 + Int(low >> 24)]
          ^ tables[768 + Int(bytes[index + 4])] ^ tables[512 + Int(bytes[index + 5])]
          ^ tables[256 + Int(bytes[index + 6])] ^ tables[Int(bytes[index + 7])]
        index += 8
      }
      while index < bytes.count {
        crc = tables[Int((crc ^ UInt32(bytes[index])) & 0xFF)] ^ (crc >> 8)
        index += 1
      }
    }
    return crc ^ 0xFFFF_FFFF
  }
}
