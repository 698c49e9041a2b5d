public import Storage

/// The machine's disk for a test that changes some of what it does: it writes that, and takes the rest from here.
public protocol DiskDouble: Disk {
  var inner: SystemDisk { get }
}

extension DiskDouble {
  public func isFolder(_ path: String) throws(StorageError) -> Bool { try self.inner.isFolder(path) }
  public func addFolder(_ path: String) throws(StorageError) { try self.inner.addFolder(path) }
  public func names(in folder: String) throws(StorageError) -> [String] { try self.inner.names(in: folder) }
  public func move(_ path: String, to newPath: String) throws(StorageError) {
    try self.inner.move(path, to: newPath)
  }
  public func remove(_ path: String) throws(StorageError) { try self.inner.remove(path) }
  public func synchronizeFolder(_ path: String) throws(StorageError) {
    try self.inner.synchronizeFolder(path)
  }
  public func size(of path: String) throws(StorageError) -> Int? { try self.inner.size(of: path) }
  public func freeBytes(at folder: String) throws(StorageError) -> UInt64 {
    try self.inner.freeBytes(at: folder)
  }
}
