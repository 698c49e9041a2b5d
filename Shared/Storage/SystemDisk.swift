import Foundation

/// The machine's own file system, by plain system calls: each says exactly what reached the disk.
public struct SystemDisk: Disk {
  public init() {}

  public func isFolder(_ path: String) throws(StorageError) -> Bool {
    var information = stat()
    guard stat(path, &information) == 0 else {
      if errno == ENOENT || errno == ENOTDIR { return false }
      throw .system("look at", path)
    }
    return information.st_mode & S_IFMT == S_IFDIR
  }

  public func addFolder(_ path: String) throws(StorageError) {
    guard mkdir(path, 0o777) == 0 else { throw .system("make the folder", path) }
  }

  public func names(in folder: String) throws(StorageError) -> [String] {
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      let isMissing = (error as? CocoaError)?.code == .fileReadNoSuchFile
      throw StorageError(
        isMissing ? .notFound : .fileSystem, "Cannot list the folder \(folder).", cause: error)
    }
  }

  public func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    let flags =
      switch access {
      case .read: O_RDONLY
      case .readWrite: O_RDWR
      case .create: O_RDWR | O_CREAT | O_EXCL
      }
    let descriptor = Foundation.open(path, flags | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw .system(access == .create ? "create" : "open", path) }
    return SystemFile(path: path, descriptor: descriptor)
  }

  public func move(_ path: String, to newPath: String) throws(StorageError) {
    guard rename(path, newPath) == 0 else { throw .system("rename to \(newPath)", path) }
  }

  public func remove(_ path: String) throws(StorageError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw .system("delete", path) }
  }

  public func synchronizeFolder(_ path: String) throws(StorageError) {
    let descriptor = Foundation.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system("open", path) }
    defer { close(descriptor) }
    while fsync(descriptor) != 0 {
      guard errno == EINTR else { throw .system("sync", path) }
    }
  }

  public func size(of path: String) throws(StorageError) -> Int? {
    var information = stat()
    guard stat(path, &information) == 0 else {
      if errno == ENOENT { return nil }
      throw .system("look at", path)
    }
    return Int(information.st_size)
  }

  public func freeBytes(at folder: String) throws(StorageError) -> UInt64 {
    var information = statvfs()
    guard statvfs(folder, &information) == 0 else { throw .system("look at the disk of", folder) }
    return UInt64(information.f_bavail) * UInt64(information.f_frsize)
  }
}

/// An open file of the machine.
final class SystemFile: DiskFile {
  let path: String
  private let descriptor: Int32

  init(path: String, descriptor: Int32) {
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(self.descriptor) }

  func size() throws(StorageError) -> Int {
    var information = stat()
    guard fstat(self.descriptor, &information) == 0 else { throw .system("look at", self.path) }
    guard information.st_mode & S_IFMT == S_IFREG else {
      throw StorageError(.fileSystem, "\(self.path) is not a plain file.")
    }
    return Int(information.st_size)
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) -> Int {
    var filled = 0
    while filled < buffer.count {
      let got = pread(
        self.descriptor, buffer.baseAddress! + filled, buffer.count - filled, off_t(offset + filled))
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw .system("read", self.path) }
      if got == 0 { break }
      filled += got
    }
    return filled
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(StorageError) {
    var written = 0
    while written < bytes.count {
      let count = pwrite(
        self.descriptor, bytes.baseAddress! + written, bytes.count - written, off_t(offset + written))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw .system("write", self.path) }
      written += count
    }
  }

  func truncate(to size: Int) throws(StorageError) {
    while ftruncate(self.descriptor, off_t(size)) != 0 {
      guard errno == EINTR else { throw .system("truncate", self.path) }
    }
  }

  func synchronize() throws(StorageError) {
    while fdatasync(self.descriptor) != 0 {
      guard errno == EINTR else { throw .system("sync", self.path) }
    }
  }
}

extension StorageError {
  /// The last system call's failure. errno is read here, in the same synchronous function as its cause.
  static func system(_ verb: String, _ path: String) -> StorageError {
    let code = errno
    let text = String(cString: strerror(code))
    switch code {
    case ENOSPC, EDQUOT:
      return StorageError(
        .diskFull,
        "Cannot \(verb) \(path): the disk is full. Free space there and try again; nothing was lost.")
    case ENOENT: return StorageError(.notFound, "Cannot \(verb) \(path): there is no such file or folder.")
    case EEXIST: return StorageError(.exists, "Cannot \(verb) \(path): it is there already.")
    case EACCES, EPERM:
      return StorageError(.denied, "Cannot \(verb) \(path): \(text). Look at its permissions.")
    default: return StorageError(.fileSystem, "Cannot \(verb) \(path): \(text).")
    }
  }
}
