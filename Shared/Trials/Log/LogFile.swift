internal import Storage

/// A file that is only appended to.
///
/// A read that fails is one of two things. Damage of a place (`.unreadable`): these bytes cannot be read ``tries`` times in a row
/// while others of the same file can, and no more than ``maximumUnreadable`` places were like that since the file was opened. Or a
/// disk that fails (`.fileSystem`): then nothing is known of what the file holds, and nobody may take anything in it for lost.
final class LogFile {
  private static let tries = 3
  static let maximumUnreadable = 1_024
  /// Bytes that a disk, or the machine's memory, reads or fails to read as one.
  static let block = 4_096
  /// Blocks, spread over a file, of which none can be read where its disk fails.
  private static let probes = 16
  /// Bytes that are written once more at once.
  private static let piece = 1 << 20

  let path: String
  private let file: any DiskFile
  /// Bytes that count. What lies behind them was never acknowledged.
  private(set) var size: Int
  /// Set while bytes behind `size` could not be cut off; nothing is appended before they are.
  private var hasTail = false
  /// Where they begin.
  private var unreadable: Set<Int> = []

  init(_ path: String, _ access: DiskAccess, on disk: any Disk) throws(TrialsError) {
    let (file, size) = try TrialsError.disk { () throws(StorageError) in
      let file = try disk.open(path, access)
      return (file, try file.size())
    }
    self.path = path
    self.file = file
    self.size = size
  }

  /// Appends all bytes, or none: after a failure the file counts as long as before.
  func append(_ bytes: [UInt8]) throws(TrialsError) {
    if self.hasTail { try self.cut(to: self.size) }
    do {
      try TrialsError.disk { () throws(StorageError) in try self.file.write(bytes, at: self.size) }
    } catch {
      try? self.cut(to: self.size)
      throw error
    }
    self.size += bytes.count
  }

  /// Returns once everything appended is on the disk.
  func synchronize() throws(TrialsError) {
    try TrialsError.disk { () throws(StorageError) in try self.file.synchronize() }
  }

  /// Writes bytes once more as they stand, so that the next sync writes them whatever the machine takes for written.
  func renew(_ bytes: Range<Int>) throws(TrialsError) {
    var offset = bytes.lowerBound
    while offset < bytes.upperBound {
      let piece = try self.read(at: offset, count: min(Self.piece, bytes.upperBound - offset))
      try self.overwrite(piece, at: offset)
      offset += piece.count
    }
  }

  /// Writes over bytes that are there.
  func overwrite(_ bytes: [UInt8], at offset: Int) throws(TrialsError) {
    try TrialsError.disk { () throws(StorageError) in try self.file.write(bytes, at: offset) }
  }

  /// Forgets what lies behind `size`: at once for whoever appends, in the file now or before the next append.
  func cut(to size: Int) throws(TrialsError) {
    self.size = size
    self.hasTail = true
    try TrialsError.disk { () throws(StorageError) in try self.file.truncate(to: size) }
    self.hasTail = false
  }

  /// - Throws: ``TrialsError`` `.unreadable`, `.fileSystem`; `.corrupt` where the file ends before.
  func read(at offset: Int, count: Int) throws(TrialsError) -> [UInt8] {
    guard offset >= 0, count >= 0, offset <= self.size, count <= self.size - offset else {
      throw TrialsError(
        .corrupt, "\(self.path) has \(self.size) bytes; \(count) at \(offset) are past its end.")
    }
    var failure: TrialsError?
    for _ in 0..<Self.tries {
      do {
        return try TrialsError.disk { () throws(StorageError) in
          try self.file.read(at: offset, count: count)
        }
      } catch {
        guard error.code == .fileSystem else { throw error }
        failure = error
      }
    }
    self.unreadable.insert(offset)
    guard self.unreadable.count <= Self.maximumUnreadable else {
      throw TrialsError(
        .fileSystem,
        "More than \(Self.maximumUnreadable) places of \(self.path) cannot be read: its disk fails. Copy what can still be "
          + "read to another disk and start there.", cause: failure)
    }
    guard self.isReadable(besides: offset..<offset + count) else {
      throw TrialsError(
        .fileSystem, "Nothing of \(self.path) can be read: its disk fails, or the file must be moved away.",
        cause: failure)
    }
    throw TrialsError(
      .unreadable, "\(self.path) cannot be read in \(count) bytes at \(offset), though elsewhere it can.",
      cause: failure)
  }

  /// The same; nil where they are unreadable.
  func readUnlessBad(at offset: Int, count: Int) throws(TrialsError) -> [UInt8]? {
    do {
      return try self.read(at: offset, count: count)
    } catch {
      guard error.code == .unreadable else { throw error }
      return nil
    }
  }

  /// The same, with zeros in each block that is unreadable: they begin no chunk and match no CRC.
  func readAroundBad(at offset: Int, count: Int) throws(TrialsError) -> [UInt8] {
    if let bytes = try self.readUnlessBad(at: offset, count: count) { return bytes }
    var bytes: [UInt8] = []
    while bytes.count < count {
      let start = offset + bytes.count
      let piece = min(count - bytes.count, Self.block - start % Self.block)
      bytes += try self.readUnlessBad(at: start, count: piece) ?? [UInt8](repeating: 0, count: piece)
    }
    return bytes
  }

  /// Whether any of the blocks at either side of some bytes, at their ends, at the file's or spread over it can be read.
  private func isReadable(besides bytes: Range<Int>) -> Bool {
    let block = Self.block
    // Whoever only reads it may have opened it when there was less of it.
    let size = max(self.size, (try? self.file.size()) ?? 0)
    let near = [bytes.lowerBound - block, bytes.upperBound, bytes.upperBound - block, bytes.lowerBound]
    let spread = (0..<Self.probes).map { size / Self.probes * $0 / block * block }
    return (near + [size - block] + spread).contains { start in
      let probe = max(0, start)..<max(max(0, start), min(size, max(0, start) + block))
      guard !probe.isEmpty, !(probe.lowerBound <= bytes.lowerBound && probe.upperBound >= bytes.upperBound)
      else { return false }
      return (try? self.file.read(at: probe.lowerBound, count: probe.count)) != nil
    }
  }
}
