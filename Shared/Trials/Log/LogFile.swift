import Foundation

/// A file that is only appended to, with plain system calls: each says exactly what reached the disk.
final class LogFile {
  let path: String
  private let descriptor: Int32
  private(set) var size: Int

  /// Opens a file, making it where it is missing.
  init(path: String) throws(TrialsError) {
    self.path = path
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.failure("open", path) }
    self.descriptor = descriptor
    self.size = Int(lseek(descriptor, 0, SEEK_END))
  }

  deinit { close(self.descriptor) }

  /// Appends all bytes, or none: after a failure the file is as long as before.
  func append(_ bytes: [UInt8]) throws(TrialsError) {
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes { buffer in
        pwrite(
          self.descriptor, buffer.baseAddress! + written, bytes.count - written, off_t(self.size + written))
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let failure = Self.failure("write", self.path)
        _ = ftruncate(self.descriptor, off_t(self.size))
        throw failure
      }
      written += count
    }
    self.size += written
  }

  /// Returns once everything appended is on the disk.
  func synchronize() throws(TrialsError) {
    while fdatasync(self.descriptor) != 0 {
      guard errno == EINTR else { throw Self.failure("sync", self.path) }
    }
  }

  func truncate(to size: Int) throws(TrialsError) {
    guard ftruncate(self.descriptor, off_t(size)) == 0 else { throw Self.failure("truncate", self.path) }
    self.size = size
  }

  func read(offset: Int, count: Int) throws(TrialsError) -> [UInt8] {
    guard offset >= 0, count >= 0, offset + count <= self.size else {
      throw TrialsError(
        .corrupt, "\(self.path) has \(self.size) bytes; \(offset) + \(count) is past its end.")
    }
    let path = self.path
    let descriptor = self.descriptor
    var failure: TrialsError?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset + filled))
        if got < 0, errno == EINTR { continue }
        guard got > 0 else {
          failure = Self.failure("read", path)
          return
        }
        filled += got
      }
    }
    if let failure { throw failure }
    return bytes
  }

  /// Makes a folder's list of names durable: a new file is not there after a crash without this.
  static func synchronizeFolder(_ path: String) throws(TrialsError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Self.failure("open", path) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw Self.failure("sync", path) }
  }

  /// errno is read here, in the same synchronous function as its cause.
  private static func failure(_ verb: String, _ path: String) -> TrialsError {
    let code = errno
    let text = String(cString: strerror(code))
    guard code == ENOSPC || code == EDQUOT else {
      return TrialsError(.fileSystem, "Cannot \(verb) \(path): \(text).")
    }
    return TrialsError(
      .diskFull,
      "The disk of \(path) is full. Nothing was stored and nothing was lost: robots keep their trials. Free space there."
    )
  }
}
