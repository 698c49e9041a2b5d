internal import Artifacts
internal import Foundation
internal import Schemas
internal import Storage

/// Jobs on disk, each a folder: `job` (a TrainingJob), `snapshot` (its name), `checkpoint`. What is written is whole or old.
struct JobStore: Sendable {
  /// Jobs that are remembered; the oldest that have ended are deleted.
  static let maximumJobs = 500
  /// Bytes of a checkpoint that is read.
  static let maximumCheckpointBytes = 4 << 30

  let folder: String
  private let lock: FolderLock

  /// - Throws: `StorageError` `.inUse` where another training process owns the folder.
  init(folder: String) throws {
    self.folder = folder
    self.lock = try FolderLock(folder: folder, owner: "training")
  }

  func save(_ job: TrainingJob) throws {
    let path = "\(self.folder)/\(job.jobID)"
    try SystemDisk().makeFolder(path)
    try DurableFile.write(job.serializedBytes(), to: "\(path)/job")
  }

  /// Every job, oldest first. A folder without a readable job is left alone and not listed.
  func load() -> [TrainingJob] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: self.folder)) ?? []
    return names.sorted().compactMap { name in
      guard let bytes = try? DurableFile.read("\(self.folder)/\(name)/job", limit: 4 << 20) else {
        return nil
      }
      return try? TrainingJob(serializedBytes: bytes)
    }
  }

  func saveSnapshot(_ name: String, of job: String) throws {
    try DurableFile.write(Array(name.utf8), to: "\(self.folder)/\(job)/snapshot")
  }

  func snapshot(of job: String) -> String? {
    (try? DurableFile.read("\(self.folder)/\(job)/snapshot", limit: 1 << 10))
      .map { String(decoding: $0, as: UTF8.self) }
  }

  func saveCheckpoint(_ bytes: [UInt8], of job: String) throws {
    try DurableFile.write(bytes, to: "\(self.folder)/\(job)/checkpoint")
  }

  func checkpoint(of job: String) -> [UInt8]? {
    try? DurableFile.read("\(self.folder)/\(job)/checkpoint", limit: Self.maximumCheckpointBytes)
  }

  func deleteCheckpoint(of job: String) {
    try? FileManager.default.removeItem(atPath: "\(self.folder)/\(job)/checkpoint")
  }

  func delete(_ job: String) { try? FileManager.default.removeItem(atPath: "\(self.folder)/\(job)") }
}
