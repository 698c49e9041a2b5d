public import Foundation

/// Files that are there whole or not at all, also after `kill -9` or a power cut.
public enum DurableFile {
  /// Writes beside the target, syncs, renames over it and syncs the folder.
  /// - Parameter mode: permissions, e.g. 0o600 for a key.
  /// - Throws: ``ArtifactError`` `.diskFull` or `.fileSystem`; the old content then still stands.
  public static func write(
    _ bytes: some ContiguousBytes, to path: String, mode: mode_t = 0o644
  ) throws(ArtifactError) {
    let temporary = "\(path).\(UInt64.random(in: 0 ... .max)).partial"
    let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0 else { throw .system("create", temporary) }
    var failure: ArtifactError?
    bytes.withUnsafeBytes { failure = Self.writeAll($0, to: file, path: temporary) }
    if failure == nil, fsync(file) != 0 { failure = .system("sync", temporary) }
    close(file)
    if failure == nil, rename(temporary, path) != 0 { failure = .system("rename to", path) }
    if let failure {
      unlink(temporary)
      throw failure
    }
    self.syncFolder(of: path)
  }

  /// Reads a whole file.
  /// - Throws: ``ArtifactError`` `.notFound`, `.tooLarge` or `.fileSystem`.
  public static func read(_ path: String, limit: Int) throws(ArtifactError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      if errno == ENOENT { throw ArtifactError(.notFound, "There is no file \(path).") }
      throw .system("open", path)
    }
    defer { close(file) }
    var information = stat()
    guard fstat(file, &information) == 0 else { throw .system("look at", path) }
    guard information.st_mode & S_IFMT == S_IFREG else {
      throw ArtifactError(.fileSystem, "\(path) is not a plain file.")
    }
    let size = Int(information.st_size)
    guard size <= limit else {
      throw ArtifactError(.tooLarge, "\(path) has \(size) bytes; at most \(limit) are read.")
    }
    var failed = false
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let got = Foundation.read(file, buffer.baseAddress! + count, size - count)
        if got < 0, errno == EINTR { continue }
        if got <= 0 {
          failed = got < 0
          return
        }
        count += got
      }
    }
    guard !failed else { throw .system("read", path) }
    return bytes
  }

  /// Makes a folder and those above it.
  public static func makeFolder(_ path: String) throws(ArtifactError) {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw ArtifactError(.fileSystem, "Cannot make the folder \(path).", cause: error)
    }
  }

  /// A rename is durable once the folder is synced; a file system that cannot sync folders is no reason to fail.
  private static func syncFolder(of path: String) {
    let folder = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { return }
    fsync(folder)
    close(folder)
  }

  private static func writeAll(
    _ bytes: UnsafeRawBufferPointer, to file: Int32, path: String
  ) -> ArtifactError? {
    var offset = 0
    while offset < bytes.count {
      let written = Foundation.write(file, bytes.baseAddress! + offset, bytes.count - offset)
      if written < 0, errno == EINTR { continue }
      if written <= 0 { return .system("write", path) }
      offset += written
    }
    return nil
  }
}

extension ArtifactError {
  /// The last system call's failure.
  static func system(_ action: String, _ path: String) -> ArtifactError {
    let reason = String(cString: strerror(errno))
    if errno == ENOSPC || errno == EDQUOT {
      return ArtifactError(
        .diskFull, "Cannot \(action) \(path): the disk is full. Free space and try again; nothing was lost.")
    }
    return ArtifactError(.fileSystem, "Cannot \(action) \(path): \(reason).")
  }
}
