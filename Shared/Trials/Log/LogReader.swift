import Schemas
import Storage

/// Reads trials by their place in the log, on a thread of its own: reading does not hold up committing.
actor LogReader {
  /// Files that are open at once.
  private static let maximumFiles = 16

  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let disk: any Disk
  /// The one that was read last comes last.
  private var files: [(name: String, file: LogFile)] = []

  init(folder: String, disk: any Disk, runtime: Runtime) {
    self.folder = folder
    self.disk = disk
    self.executor = runtime.makeSerialExecutor("fleetloop.trials.reader")
  }

  /// The trial at a position.
  /// - Parameter reopening: whether its file is opened anew, however well it is known.
  /// - Throws: ``TrialsError`` `.corrupt` where the chunk does not match its CRC or holds another trial, `.notFound` where the
  ///   file is missing.
  func trial(_ name: TrialName, at position: LogPosition, reopening: Bool = false) throws -> TrialRecord {
    if reopening { self.files.removeAll { $0.name == position.file } }
    let bytes = try self.file(position).read(at: position.offset, count: position.length)
    guard let record = ChunkRecord(bytes, at: position.offset) else {
      throw TrialsError(
        .corrupt,
        "\(self.folder)/\(position.file) is damaged at \(position.offset), where trial \(name.trialID) of robot "
          + "\(name.robot) was; restore the file from a copy.")
    }
    let trial = try Self.decode(record, position)
    guard trial.robot == name.robot, trial.trialID == name.trialID else {
      throw TrialsError(
        .corrupt,
        "\(self.folder)/\(position.file) holds trial \(trial.trialID) of robot \(trial.robot) at "
          + "\(position.offset), not \(name.trialID) of \(name.robot); restart ingest to make the catalog agree."
      )
    }
    return trial
  }

  private static func decode(_ record: ChunkRecord, _ position: LogPosition) throws -> TrialRecord {
    do {
      return try record.trial()
    } catch {
      throw TrialsError(
        .corrupt, "\(position.file) holds no trial at \(position.offset), but something else.", cause: error)
    }
  }

  /// Bytes and files of the log, and free bytes beside it.
  func usage() throws(TrialsError) -> (bytes: Int, files: Int, free: UInt64) {
    try TrialsError.disk { () throws(StorageError) in
      let names = try self.disk.names(in: self.folder).filter { LogFileName($0) != nil }
      var bytes = 0
      for name in names { bytes += try self.disk.size(of: "\(self.folder)/\(name)") ?? 0 }
      return (bytes, names.count, try self.disk.freeBytes(at: self.folder))
    }
  }

  private func file(_ position: LogPosition) throws(TrialsError) -> LogFile {
    if let index = self.files.firstIndex(where: { $0.name == position.file }) {
      let entry = self.files.remove(at: index)
      // The file that is appended to has grown since.
      if position.offset + position.length <= entry.file.size {
        self.files.append(entry)
        return entry.file
      }
    }
    let file = try LogFile("\(self.folder)/\(position.file)", .read, on: self.disk)
    if self.files.count >= Self.maximumFiles { self.files.removeFirst() }
    self.files.append((position.file, file))
    return file
  }
}
