package import Schemas
package import Storage
import Trials

/// A trial's events in one file: ``mark`` and the format, then for each event the CRC-32 of what follows of it, its length, and
/// its bytes. All numbers have 4 bytes, least significant first.
///
/// A bit that turns on the robot's disk may leave an event that says something else; ingest could not know, and a model
/// would learn it. Files of format 1 have neither mark nor checksums, only lengths and events: they are read, for
/// what an agent before left.
package struct SpoolFile: ~Copyable {
  /// A file larger than this is none of ours.
  private static let largestFile = 1 << 30
  /// Read as the length that a file of format 1 begins with, it is more than a file may have, whichever bit of it turns.
  private static let mark: UInt32 = 0xFFFF_FFFF
  private static let format: UInt32 = 2
  private static let headSize = 8
  /// Bytes that a disk reads, or fails to read, as one, and how many such blocks of a file are tried.
  private static let block = 4_096
  private static let probes = 16

  package let path: String
  package private(set) var bytes: UInt64 = 0
  private let file: any DiskFile

  /// Creates the file.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(creating path: String, on disk: any Disk = SystemDisk()) throws(RobotError) {
    self.path = path
    self.file = try onDisk { () throws(StorageError) in try disk.open(path, .create, mode: 0o640) }
  }

  /// Adds an event; with the first one goes the file's head.
  /// - Returns: bytes that it took.
  /// - Throws: ``RobotError`` `.diskFailed`, e.g. when the disk is full. Half of the event may be in the file then.
  @discardableResult
  package mutating func append(_ event: TrialEvent) throws(RobotError) -> UInt64 {
    try self.append(encoded: event.serializedBytes())
  }

  /// As ``append(_:)``, of an event that is encoded already.
  @discardableResult
  mutating func append(encoded message: [UInt8]) throws(RobotError) -> UInt64 {
    var checked: [UInt8] = []
    checked.reserveCapacity(message.count + 4)
    checked.append(number: UInt32(message.count))
    checked.append(contentsOf: message)
    var frame: [UInt8] = []
    frame.reserveCapacity(Self.headSize + 4 + checked.count)
    if self.bytes == 0 {
      frame.append(number: Self.mark)
      frame.append(number: Self.format)
    }
    frame.append(number: CRC32.checksum(checked))
    frame.append(contentsOf: checked)
    let (file, offset, bytes) = (self.file, Int(self.bytes), frame)
    try onDisk { () throws(StorageError) in try file.write(bytes, at: offset) }
    self.bytes += UInt64(bytes.count)
    return UInt64(bytes.count)
  }

  /// Makes what was appended survive a power cut.
  package func synchronize() throws(RobotError) {
    let file = self.file
    try onDisk { () throws(StorageError) in try file.synchronize() }
  }

  /// Every event of a file, encoded.
  /// - Throws: ``RobotError`` `.diskFailed` where the file cannot be read, `.damaged` where it is gone, not as it was written,
  ///   or of a later format.
  package static func messages(
    at path: String, on disk: any Disk = SystemDisk()
  ) throws(RobotError) -> [[UInt8]] {
    let bytes: [UInt8]
    do throws(StorageError) {
      bytes = try DurableFile.read(path, limit: Self.largestFile, on: disk)
    } catch {
      let isForEver = error.code == .notFound || error.code == .tooLarge
      throw RobotError(isForEver ? .damaged : .diskFailed, error.message, cause: error)
    }
    let isChecked = bytes.count >= Self.headSize && bytes.number(at: 0) == Self.mark
    if isChecked, case let format = bytes.number(at: 4), format != Self.format {
      throw RobotError(
        .damaged,
        "The spool file \(path) is damaged or of format \(format); this agent reads 1 and \(Self.format).")
    }
    var messages: [[UInt8]] = []
    var offset = isChecked ? Self.headSize : 0
    while offset < bytes.count {
      // The length, and the checksum before it.
      let start = offset + (isChecked ? 8 : 4)
      guard start <= bytes.count, case let length = Int(bytes.number(at: start - 4)),
        length <= bytes.count - start,
        !isChecked || CRC32.checksum(bytes[offset + 4..<start + length]) == bytes.number(at: offset)
      else { throw RobotError(.damaged, "The spool file \(path) is damaged at byte \(offset).") }
      messages.append(Array(bytes[start..<start + length]))
      offset = start + length
    }
    return messages
  }

  /// Whether any of a file's blocks, spread over it, can be read.
  package static func hasReadableBlock(at path: String, on disk: any Disk) -> Bool {
    guard let file = try? disk.open(path, .read), let size = try? file.size() else { return false }
    let blocks = (size + Self.block - 1) / Self.block
    let probes = min(blocks, Self.probes)
    return (0..<probes).contains { probe in
      let offset = blocks * probe / probes * Self.block
      return (try? file.read(at: offset, count: min(Self.block, size - offset))) != nil
    }
  }

  /// Every event of a file.
  /// - Throws: ``RobotError`` `.diskFailed` where the file cannot be read, `.damaged` where it is gone or not as it was
  ///   written.
  package static func events(
    at path: String, on disk: any Disk = SystemDisk()
  ) throws(RobotError) -> [TrialEvent] {
    var events: [TrialEvent] = []
    for message in try self.messages(at: path, on: disk) {
      do { events.append(try TrialEvent(serializedBytes: message)) } catch {
        throw RobotError(
          .damaged, "Event \(events.count) of the spool file \(path) is damaged.", cause: error)
      }
    }
    return events
  }
}

extension [UInt8] {
  fileprivate mutating func append(number: UInt32) {
    Swift.withUnsafeBytes(of: number.littleEndian) { self.append(contentsOf: $0) }
  }

  fileprivate func number(at offset: Int) -> UInt32 {
    self[offset..<offset + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}
