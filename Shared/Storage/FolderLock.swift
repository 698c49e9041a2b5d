import Foundation

/// One process owns a folder: two that write the same files would damage both of their work.
///
/// The lock is the kernel's and goes with its process, also with `kill -9`: none is ever left behind.
public final class FolderLock: Sendable {
  private let descriptor: Int32

  /// Makes the folder where it is missing, and takes the lock file `folder/lock`.
  /// - Parameter owner: who wants it, for the message, e.g. "ingest".
  /// - Throws: ``StorageError`` `.inUse` where another process owns the folder, `.fileSystem` where it cannot be written.
  public init(folder: String, owner: String) throws(StorageError) {
    try SystemDisk().makeFolder(folder)
    let path = "\(folder)/lock"
    self.descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard self.descriptor >= 0 else {
      throw StorageError(.fileSystem, "Cannot open \(path): \(String(cString: strerror(errno))).")
    }
    guard flock(self.descriptor, LOCK_EX | LOCK_NB) == 0 else {
      // The descriptor is closed by `deinit`, which runs although this throws: all properties are set.
      let code = errno
      guard code == EWOULDBLOCK else {
        throw StorageError(.fileSystem, "Cannot lock \(path): \(String(cString: strerror(code))).")
      }
      throw StorageError(
        .inUse, "Another \(owner) owns the folder \(folder). End it first, or give this one another folder.")
    }
  }

  deinit { if self.descriptor >= 0 { close(self.descriptor) } }
}
