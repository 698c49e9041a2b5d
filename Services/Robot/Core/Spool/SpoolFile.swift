import Foundation
package import Schemas

/// A trial's events in one file: for each event its length as 4 bytes, least significant first, then its bytes.
package struct SpoolFile: ~Copyable {
  /// An event larger than this is no event of ours.
  private static let largestEvent = 256 << 20

  package let path: String
  package private(set) var bytes: UInt64 = 0
  private let handle: FileHandle

  /// Creates the file.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(creating path: String) throws(RobotError) {
    self.path = path
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else { throw Self.failure("create", path, errno: errno) }
    self.handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
  }

  /// - Throws: ``RobotError`` `.diskFailed`, e.g. when the disk is full.
  package mutating func append(_ event: TrialEvent) throws(RobotError) {
    do {
      let message = event.serializedBytes()
      let length = UInt32(message.count).littleEndian
      var frame = Data(capacity: message.count + 4)
      withUnsafeBytes(of: length) { frame.append(contentsOf: $0) }
      frame.append(contentsOf: message)
      try self.handle.write(contentsOf: frame)
      self.bytes += UInt64(frame.count)
    } catch {
      throw RobotError(
        .diskFailed, "Cannot write to the spool file \(self.path). Free some space on the robot's disk.",
        cause: error)
    }
  }

  /// Makes what was appended survive a power cut.
  package func synchronize() throws(RobotError) {
    do {
      try self.handle.synchronize()
    } catch {
      throw RobotError(.diskFailed, "Cannot sync the spool file \(self.path).", cause: error)
    }
  }

  /// Every event of a file.
  /// - Throws: ``RobotError`` `.diskFailed` where the file cannot be read, or is no whole number of events.
  package static func events(at path: String) throws(RobotError) -> [TrialEvent] {
    do {
      let data = try Data(contentsOf: URL(filePath: path))
      return try data.withUnsafeBytes { bytes in
        var events: [TrialEvent] = []
        var offset = 0
        while offset < bytes.count {
          guard bytes.count - offset >= 4 else { throw Self.torn(path, at: offset) }
          let length = Int(
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
          offset += 4
          guard length <= Self.largestEvent, length <= bytes.count - offset else {
            throw Self.torn(path, at: offset)
          }
          events.append(
            try TrialEvent(serializedBytes: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
          )
          offset += length
        }
        return events
      }
    } catch let error as RobotError {
      throw error
    } catch {
      throw RobotError(.diskFailed, "Cannot read the spool file \(path).", cause: error)
    }
  }

  private static func torn(_ path: String, at offset: Int) -> RobotError {
    RobotError(.diskFailed, "The spool file \(path) is damaged at byte \(offset).")
  }

  static func failure(_ verb: String, _ path: String, errno code: Int32) -> RobotError {
    RobotError(.diskFailed, "Cannot \(verb) \(path): \(String(cString: strerror(code))).")
  }
}
