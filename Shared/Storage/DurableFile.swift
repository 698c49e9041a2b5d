public import Foundation

/// Small files that are there whole or not at all, also after `kill -9` or a power cut.
public enum DurableFile {
  /// Writes beside the target, syncs, renames over it and syncs the folder.
  /// - Parameter mode: permissions, e.g. 0o600 for a key.
  /// - Throws: ``StorageError`` `.diskFull` or `.fileSystem`; the old content then still stands, unless only the folder's
  ///   sync failed: then either does.
  public static func write(
    _ bytes: some ContiguousBytes, to path: String, mode: UInt32 = 0o644, on disk: any Disk = SystemDisk()
  ) throws(StorageError) {
    let temporary = "\(path).\(UInt64.random(in: 0 ... .max)).partial"
    do throws(StorageError) {
      let file = try disk.open(temporary, .create, mode: mode)
      var failure: StorageError?
      bytes.withUnsafeBytes { buffer in
        do throws(StorageError) { try file.write(buffer, at: 0) } catch { failure = error }
      }
      if let failure { throw failure }
      try file.synchronize()
      try disk.move(temporary, to: path)
    } catch {
      try? disk.remove(temporary)
      // Who tries again has the same words again.
      throw StorageError(error.code, error.message.replacing(temporary, with: path), cause: error.cause)
    }
    try disk.synchronizeFolder(Self.folder(of: path))
  }

  /// Reads a whole file.
  /// - Parameter limit: bytes that it may have.
  /// - Throws: ``StorageError`` `.notFound`, `.tooLarge` or `.fileSystem`.
  public static func read(
    _ path: String, limit: Int, on disk: any Disk = SystemDisk()
  ) throws(StorageError) -> [UInt8] {
    let file = try disk.open(path, .read)
    let size = try file.size()
    guard size <= limit else {
      throw StorageError(.tooLarge, "\(path) has \(size) bytes; at most \(limit) are read.")
    }
    return try file.read(at: 0, count: size)
  }

  /// Free bytes from which on a disk that was full counts as mended: what it did not take may be a model or a checkpoint, and a
  /// small file fits where they do not.
  public static let room: UInt64 = 64 << 20

  /// Looks whether a folder takes files again: there is ``room``, and one can be written and deleted.
  /// - Throws: ``StorageError`` `.diskFull`, and as ``write(_:to:mode:on:)`` does.
  public static func probe(_ folder: String, on disk: any Disk = SystemDisk()) throws(StorageError) {
    let free = try disk.freeBytes(at: folder)
    guard free >= Self.room else {
      throw StorageError(.diskFull, "\(folder) has \(free) bytes free; at least \(Self.room) are needed.")
    }
    let path = "\(folder)/probe.partial"
    try Self.write([UInt8](repeating: 0, count: 4_096), to: path, on: disk)
    try disk.remove(path)
  }

  /// Deletes what a crash left of writing files in a folder. Call it before anybody writes there.
  /// - Returns: what the disk does not let go, and why. It takes room and does no other harm, where nobody takes it for
  ///   something else; see ``isLeftover(_:)``.
  /// - Throws: ``StorageError`` where the folder cannot be read.
  @discardableResult
  public static func removeLeftovers(
    in folder: String, on disk: any Disk = SystemDisk()
  ) throws(StorageError) -> [(path: String, error: StorageError)] {
    var stuck: [(path: String, error: StorageError)] = []
    for path in try disk.names(in: folder).filter(Self.isLeftover).map({ "\(folder)/\($0)" }) {
      do throws(StorageError) { try disk.remove(path) } catch { stuck.append((path, error)) }
    }
    return stuck
  }

  /// Whether a file's name is one that a crash leaves: of ``write(_:to:mode:on:)``, or of Foundation's atomic writes.
  public static func isLeftover(_ name: String) -> Bool {
    name.hasSuffix(".partial") || name.hasPrefix(".dat.nosync")
  }

  /// The folder that a file or folder lies in, `.` for a name alone and for `.` itself; by `dirname(3)`, because Foundation's
  /// `deletingLastPathComponent` ends the process on a path of one letter.
  public static func folder(of path: String) -> String {
    var bytes = Array(path.utf8CString)
    return bytes.withUnsafeMutableBufferPointer { String(cString: dirname($0.baseAddress!)) }
  }
}
