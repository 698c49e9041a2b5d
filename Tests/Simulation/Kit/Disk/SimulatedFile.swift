import Storage

/// An open file of a simulated disk.
final class SimulatedFile: DiskFile, @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let path: String
  private let inode: Inode
  private let disk: MountedDisk
  private let isWritable: Bool

  init(path: String, inode: Inode, disk: MountedDisk, isWritable: Bool) {
    self.path = path
    self.inode = inode
    self.disk = disk
    self.isWritable = isWritable
  }

  func size() throws(StorageError) -> Int { self.inode.content.count }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) -> Int {
    try self.disk.operate("read", self.path, failing: \.read) { fails throws(StorageError) in
      let count = max(0, min(buffer.count, self.inode.content.count - offset))
      let bytes = offset..<offset + count
      guard !fails, self.inode.canRead(bytes) else {
        self.disk.platter.didRead?(self.path, .failed(bytes))
        let isForEver = fails ? "" : ", and so at every try"
        throw MountedDisk.failure("read", self.path, "input/output error\(isForEver)")
      }
      self.disk.platter.didRead?(self.path, .done(isWhole: bytes == 0..<self.inode.content.count))
      if count > 0 {
        self.inode.content.withUnsafeBytes {
          buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]))
        }
      }
      return count
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(StorageError) {
    let growth = max(0, offset + bytes.count - self.inode.content.count)
    try self.disk.operate("write \(bytes.count) at \(offset)", self.path, failing: \.write) {
      fails throws(StorageError) in
      guard self.isWritable else { throw MountedDisk.failure("write", self.path, "it is open to be read") }
      let platter = self.disk.platter
      let room = growth == 0 ? Int.max : platter.capacity - platter.usedBytes
      if fails || room < growth {
        let most = min(bytes.count, max(0, room))
        let count = platter.random.index(below: most + 1)
        if count > 0 { self.inode.change(.write(offset, Array(bytes.prefix(count)))) }
        if fails { throw MountedDisk.failure("write", self.path, "input/output error") }
        platter.simulation.note("\(platter.host) is full")
        throw StorageError(.diskFull, "Cannot write \(self.path): the disk is full.")
      }
      if !bytes.isEmpty { self.inode.change(.write(offset, Array(bytes))) }
    }
  }

  func truncate(to size: Int) throws(StorageError) {
    try self.disk.operate("truncate to \(size)", self.path, failing: \.truncate) {
      fails throws(StorageError) in
      if fails { throw MountedDisk.failure("truncate", self.path, "input/output error") }
      self.inode.change(.truncate(size))
    }
  }

  func synchronize() throws(StorageError) {
    try self.disk.operate("sync", self.path, failing: \.synchronize) { fails throws(StorageError) in
      guard !fails else {
        self.inode.failToSynchronize(&self.disk.platter.random)
        throw MountedDisk.failure("sync", self.path, "input/output error")
      }
      self.inode.synchronize()
    }
  }
}
