/// The file operations that durable state rests on: passed in, so that a simulation can tear, fail and lose them.
///
/// Paths are absolute or relative to the process; nothing here follows a policy of its own.
public protocol Disk: Sendable {
  /// Whether there is such a folder; false where its name is a file's.
  func isFolder(_ path: String) throws(StorageError) -> Bool

  /// Makes one folder in another. Durable once that is synced: see ``makeFolder(_:)``.
  /// - Throws: ``StorageError`` `.notFound` where the one above it is missing, `.exists` where something has its name.
  func addFolder(_ path: String) throws(StorageError)

  /// The names in a folder, in no order.
  /// - Throws: ``StorageError`` `.notFound` where there is no such folder.
  func names(in folder: String) throws(StorageError) -> [String]

  /// Opens a file.
  /// - Parameter mode: permissions of a file that is made, e.g. 0o600 for a key.
  /// - Throws: ``StorageError`` `.notFound` where a file that is to be there is not, `.exists` where one is that must not be.
  func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile

  /// Renames a file; one that has the new name already is replaced. Durable once both folders are synced.
  func move(_ path: String, to newPath: String) throws(StorageError)

  /// Deletes a file; one that is gone already is fine. Durable once its folder is synced.
  func remove(_ path: String) throws(StorageError)

  /// Returns once the names in a folder are on the disk: a new, renamed or deleted file is not before.
  func synchronizeFolder(_ path: String) throws(StorageError)

  /// Bytes of a file; nil where there is none.
  func size(of path: String) throws(StorageError) -> Int?

  /// Bytes that a process may still write below a folder.
  func freeBytes(at folder: String) throws(StorageError) -> UInt64
}

/// What a file is opened for.
public enum DiskAccess: Sendable {
  /// To read one that is there.
  case read
  /// To read and write one that is there.
  case readWrite
  /// To read and write one that must not be there yet: nothing is ever overwritten by it.
  case create
}

/// An open file, closed when nobody holds it any more. Offsets are absolute, so that threads need not agree on one.
public protocol DiskFile: AnyObject, Sendable {
  var path: String { get }

  func size() throws(StorageError) -> Int

  /// Reads up to the buffer's length.
  /// - Returns: bytes read; fewer than asked for only at the file's end.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) -> Int

  /// Writes all bytes. After a failure any part of them may be there.
  /// - Throws: ``StorageError`` `.diskFull`, `.fileSystem`.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(StorageError)

  func truncate(to size: Int) throws(StorageError)

  /// Returns once what was written is on the disk. After a failure nobody knows what is; writing it anew is the only way.
  func synchronize() throws(StorageError)
}

extension Disk {
  /// Makes a folder and those above it, and returns once they survive a power cut; those that are there already are fine.
  /// - Throws: ``StorageError``.
  public func makeFolder(_ path: String) throws(StorageError) {
    let above = DurableFile.folder(of: path)
    let isThere = try self.isFolder(path)
    if !isThere {
      // From the top down, each durable before there is one in it: so of those that are there only the lowest can be in doubt.
      if above != path { try self.makeFolder(above) }
      do throws(StorageError) { try self.addFolder(path) } catch {
        // Another process may have been faster. In a folder that is there, nothing that is missing can be the reason.
        guard error.code == .exists, try self.isFolder(path) else {
          throw error.code == .notFound ? StorageError(.fileSystem, error.message) : error
        }
      }
    }
    do throws(StorageError) { try self.synchronizeFolder(above) } catch {
      // What lies in a folder that may not be read was put there by somebody else.
      guard isThere, error.code == .denied else { throw error }
    }
  }

  public func open(_ path: String, _ access: DiskAccess) throws(StorageError) -> any DiskFile {
    try self.open(path, access, mode: 0o644)
  }
}

extension DiskFile {
  public func write(_ bytes: [UInt8], at offset: Int) throws(StorageError) {
    var failure: StorageError?
    bytes.withUnsafeBytes { buffer in
      do throws(StorageError) { try self.write(buffer, at: offset) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Exactly `count` bytes.
  /// - Throws: ``StorageError`` `.corrupt` where the file ends before.
  public func read(at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
    guard offset >= 0, count >= 0 else {
      throw StorageError(.corrupt, "\(self.path): \(count) bytes at \(offset) cannot be.")
    }
    var failure: StorageError?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      do throws(StorageError) {
        filled = try self.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
      } catch { failure = error }
    }
    if let failure { throw failure }
    guard bytes.count == count else {
      throw StorageError(
        .corrupt, "\(self.path) ends at \(offset + bytes.count); \(count) bytes were to be at \(offset).")
    }
    return bytes
  }
}
