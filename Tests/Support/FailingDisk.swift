public import Storage
import Synchronization

/// The machine's disk, of which one operation fails: the n-th that could change or sync something; or all do. A failing write
/// leaves half of its bytes. Places of files, or all of them, can be made unreadable besides.
public final class FailingDisk: DiskDouble {
  public let inner = SystemDisk()
  private let state = Mutex((left: Int?.none, failed: false, refusesAll: false, dies: false))

  private let bad = Mutex((places: [(file: String, bytes: Range<Int>, opened: Int)](), all: false, opened: 0))

  public init() {}

  /// Makes bytes of a file, by its name or the end of its path, unreadable.
  public func spoil(_ file: String, _ bytes: Range<Int>) {
    self.bad.withLock { $0.places.append((file, bytes, .max)) }
  }

  /// The same, but for whoever opens the file from now on.
  public func spoilWhereOpen(_ file: String, _ bytes: Range<Int>) {
    self.bad.withLock { $0.places.append((file, bytes, $0.opened)) }
  }

  /// Makes everything unreadable, or readable again but for what is spoilt.
  public func failReads(_ fails: Bool) { self.bad.withLock { $0.all = fails } }

  fileprivate func checkRead(_ path: String, opened: Int, _ bytes: Range<Int>) throws(StorageError) {
    let fails = self.bad.withLock { bad in
      bad.all
        || bad.places.contains {
          path.hasSuffix($0.file) && $0.bytes.overlaps(bytes) && opened <= $0.opened
        }
    }
    if fails { throw StorageError(.fileSystem, "Cannot read \(path): Input/output error.") }
  }

  /// Lets `count` operations through and fails the one behind them.
  public func fail(after count: Int) {
    self.state.withLock { ($0.left, $0.failed, $0.dies) = (count, false, false) }
  }

  /// Lets `count` operations through and refuses all behind them, as where the process ends there.
  public func die(after count: Int) {
    self.state.withLock { ($0.left, $0.failed, $0.dies) = (count, false, true) }
  }

  /// Whether every operation fails, also one that asks for names or sizes.
  public var refusesAll: Bool {
    get { self.state.withLock { $0.refusesAll } }
    set { self.state.withLock { $0.refusesAll = newValue } }
  }

  public var hasFailed: Bool { self.state.withLock { $0.failed } }

  fileprivate func step(_ what: String) throws(StorageError) {
    let fails = self.state.withLock { state -> Bool in
      if state.refusesAll { return true }
      guard let left = state.left else { return false }
      state.left = left == 0 ? nil : left - 1
      if left == 0 { (state.failed, state.refusesAll) = (true, state.dies) }
      return left == 0
    }
    if fails { throw StorageError(.diskFull, "Cannot \(what): the test's disk is full.") }
  }

  private func ask(_ what: String) throws(StorageError) {
    if self.refusesAll { throw StorageError(.fileSystem, "Cannot \(what): the test's disk fails.") }
  }

  public func names(in folder: String) throws(StorageError) -> [String] {
    try self.ask("list \(folder)")
    return try self.inner.names(in: folder)
  }

  public func size(of path: String) throws(StorageError) -> Int? {
    try self.ask("ask for \(path)")
    return try self.inner.size(of: path)
  }

  public func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    if access == .create { try self.step("create \(path)") }
    let opened = self.bad.withLock { bad in
      bad.opened += 1
      return bad.opened
    }
    return FailingFile(try self.inner.open(path, access, mode: mode), self, opened: opened)
  }

  public func move(_ path: String, to newPath: String) throws(StorageError) {
    try self.step("rename \(path)")
    try self.inner.move(path, to: newPath)
  }

  public func remove(_ path: String) throws(StorageError) {
    try self.step("delete \(path)")
    try self.inner.remove(path)
  }

  public func synchronizeFolder(_ path: String) throws(StorageError) {
    try self.step("sync \(path)")
    try self.inner.synchronizeFolder(path)
  }
}

private final class FailingFile: DiskFile {
  private let inner: any DiskFile
  private let disk: FailingDisk
  /// Tells it from files that were opened later.
  private let opened: Int

  init(_ inner: any DiskFile, _ disk: FailingDisk, opened: Int) {
    self.inner = inner
    self.disk = disk
    self.opened = opened
  }

  var path: String { self.inner.path }
  func size() throws(StorageError) -> Int { try self.inner.size() }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) -> Int {
    try self.disk.checkRead(self.path, opened: self.opened, offset..<offset + buffer.count)
    return try self.inner.read(into: buffer, at: offset)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(StorageError) {
    do {
      try self.disk.step("write \(self.path)")
    } catch {
      try self.inner.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2)), at: offset)
      throw error
    }
    try self.inner.write(bytes, at: offset)
  }

  func truncate(to size: Int) throws(StorageError) {
    try self.disk.step("truncate \(self.path)")
    try self.inner.truncate(to: size)
  }

  func synchronize() throws(StorageError) {
    try self.disk.step("sync \(self.path)")
    try self.inner.synchronize()
  }
}
