import Storage
import Synchronization

/// Small files in a folder that cannot be read any more, moved aside for a person to look at.
///
/// Each is `NAME.untold-N` until what tells of it is on the disk, and `NAME.damaged-N` from then on: whatever ends the agent
/// between, the next one tells of it.
final class DamagedFiles: Sendable {
  private static let untold = ".untold-"
  private static let told = ".damaged-"

  struct File: Sendable {
    /// As it was when it could be read.
    let name: String
    /// Where it lies once it was told.
    let path: String
    fileprivate let untoldPath: String
  }

  private let folder: String
  private let disk: any Disk
  private let files: Mutex<[File]>

  /// Finds those that nobody was told of. Files of the folder are moved aside before.
  /// - Throws: ``RobotError`` `.diskFailed` where the folder cannot be read.
  init(folder: String, disk: any Disk) throws(RobotError) {
    self.folder = folder
    self.disk = disk
    let names = try onDisk { () throws(StorageError) in try disk.names(in: folder) }
    let files = names.sorted().compactMap { name -> File? in
      guard let mark = name.firstRange(of: Self.untold) else { return nil }
      return File(
        name: String(name[..<mark.lowerBound]),
        path: "\(folder)/\(name.replacing(Self.untold, with: Self.told))",
        untoldPath: "\(folder)/\(name)")
    }
    self.files = Mutex(files)
  }

  /// Moves a file aside, durably.
  /// - Parameter number: tells it from others that had its name.
  static func setAside(_ path: String, number: Int64, on disk: any Disk) throws(StorageError) {
    try disk.move(path, to: "\(path)\(Self.untold)\(number)")
    try disk.synchronizeFolder(DurableFile.folder(of: path))
  }

  /// Those that are to be told.
  var waiting: [File] { self.files.withLock { $0 } }

  /// What tells of them is on the disk. One that the disk does not rename is told again by the next agent.
  func settle() {
    self.files.withLock { files in
      guard !files.isEmpty else { return }
      files.removeAll { file in (try? self.disk.move(file.untoldPath, to: file.path)) != nil }
      try? self.disk.synchronizeFolder(self.folder)
    }
  }
}
