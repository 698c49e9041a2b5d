import Storage

/// A platter as one life of its host sees it.
struct MountedDisk: Disk, @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let platter: Platter
  let life: HostLife

  /// Runs one operation: it may fail, and the host may die before or after it.
  func operate<Result>(
    _ verb: String, _ path: String, failing chance: KeyPath<DiskFaults, Double>,
    _ body: (_ fails: Bool) throws(StorageError) -> Result
  ) throws(StorageError) -> Result {
    try self.live(verb, path)
    let death = self.platter.faults.death
    let dies = self.platter.random.chance(death)
    if dies, self.platter.random.chance(0.5) {
      self.die()
      try self.live(verb, path)
    }
    let fails = self.platter.random.chance(self.platter.faults[keyPath: chance])
    if fails {
      self.platter.failures += 1
      self.platter.simulation.note("\(self.platter.host) fails to \(verb) \(Self.named(path))")
    } else {
      self.platter.simulation.note("\(self.platter.host) \(verb) \(Self.named(path))")
    }
    let result = try body(fails)
    if dies {
      self.die()
      try self.live(verb, path)
    }
    return result
  }

  private func live(_ verb: String, _ path: String) throws(StorageError) {
    guard self.life.isAlive else { throw Self.failure(verb, path, "the host is down") }
  }

  private func die() {
    let death: Death = self.platter.random.chance(0.5) ? .killed : .powerCut
    self.life.host.die(death)
  }

  /// The name of a temporary file is drawn from the machine's randomness.
  private static func named(_ path: String) -> String {
    guard path.hasSuffix(".partial") else { return path }
    return DiskNames.folder(of: path) + "/*.partial"
  }

  static func failure(_ verb: String, _ path: String, _ why: String) -> StorageError {
    StorageError(.fileSystem, "Cannot \(verb) \(path): \(why).")
  }

  private static func missing(_ verb: String, _ path: String) -> StorageError {
    StorageError(.notFound, "Cannot \(verb) \(path): there is no such file or folder.")
  }

  // MARK: Disk

  func isFolder(_ path: String) throws(StorageError) -> Bool {
    try self.live("look at", path)
    return self.platter.names.folders.contains(path)
  }

  func addFolder(_ path: String) throws(StorageError) {
    try self.operate("make the folder", path, failing: \.open) { fails throws(StorageError) in
      if fails { throw Self.failure("make the folder", path, "input/output error") }
      guard !self.platter.names.folders.contains(path), self.platter.names.files[path] == nil else {
        throw StorageError(.exists, "Cannot make the folder \(path): it is there already.")
      }
      guard self.platter.names.folders.contains(DiskNames.folder(of: path)) else {
        throw Self.missing("make the folder", path)
      }
      self.platter.change(.addFolder(path))
    }
  }

  func names(in folder: String) throws(StorageError) -> [String] {
    try self.operate("list", folder, failing: \.read) { fails throws(StorageError) in
      if fails { throw Self.failure("list", folder, "input/output error") }
      guard self.platter.names.folders.contains(folder) else { throw Self.missing("list", folder) }
      return self.platter.names.names(in: folder).shuffled(using: &self.platter.random)
    }
  }

  func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    try self.operate("\(access)", path, failing: \.open) { fails throws(StorageError) in
      if fails {
        self.platter.didRead?(path, .failed(nil))
        throw Self.failure("open", path, "input/output error")
      }
      let known = self.platter.names.files[path]
      guard access == .create else {
        guard let known else { throw Self.missing("open", path) }
        return SimulatedFile(path: path, inode: known, disk: self, isWritable: access == .readWrite)
      }
      guard known == nil else {
        throw StorageError(.exists, "Cannot create \(path): it is there already.")
      }
      guard self.platter.names.folders.contains(DiskNames.folder(of: path)) else {
        throw Self.missing("create", path)
      }
      let inode = Inode()
      self.platter.change(.put(path, inode))
      return SimulatedFile(path: path, inode: inode, disk: self, isWritable: true)
    }
  }

  func move(_ path: String, to newPath: String) throws(StorageError) {
    try self.operate("move to \(newPath)", path, failing: \.move) { fails throws(StorageError) in
      if fails { throw Self.failure("rename", path, "input/output error") }
      guard self.platter.names.files[path] != nil,
        self.platter.names.folders.contains(DiskNames.folder(of: newPath))
      else { throw Self.missing("rename", path) }
      self.platter.change(.move(path, newPath))
      self.platter.didMove?(newPath)
    }
  }

  func remove(_ path: String) throws(StorageError) {
    try self.operate("remove", path, failing: \.remove) { fails throws(StorageError) in
      if fails { throw Self.failure("delete", path, "input/output error") }
      guard self.platter.names.files[path] != nil else { return }
      self.platter.change(.remove(path))
      self.platter.didRemove?(path)
    }
  }

  func synchronizeFolder(_ path: String) throws(StorageError) {
    try self.operate("sync folder", path, failing: \.synchronizeFolder) { fails throws(StorageError) in
      if fails { throw Self.failure("sync", path, "input/output error") }
      guard self.platter.names.folders.contains(path) else { throw Self.missing("sync", path) }
      self.platter.synchronizeFolder(path)
    }
  }

  func size(of path: String) throws(StorageError) -> Int? {
    try self.live("look at", path)
    return self.platter.names.files[path]?.content.count
  }

  func freeBytes(at folder: String) throws(StorageError) -> UInt64 {
    try self.live("look at", folder)
    return UInt64(max(0, self.platter.capacity - self.platter.usedBytes))
  }
}
