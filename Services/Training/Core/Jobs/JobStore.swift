internal import Artifacts
internal import Foundation
internal import Logging
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

  /// Every job, oldest first. One whose file cannot be read has failed and says so; the file is kept as `job.damaged`. A folder
  /// without such a file is none of a job.
  func load(logger: Logger) -> [TrainingJob] {
    let names = (try? SystemDisk().names(in: self.folder)) ?? []
    return names.sorted().compactMap { name in
      guard (try? SystemDisk().isFolder("\(self.folder)/\(name)")) == true else { return nil }
      let path = "\(self.folder)/\(name)/job"
      do {
        let job = try TrainingJob(serializedBytes: DurableFile.read(path, limit: 4 << 20))
        guard job.jobID == name else {
          throw TrainingError(.storage, "It is of job '\(job.jobID.prefix(128))'.")
        }
        return job
      } catch let error as StorageError where error.code == .notFound {
        return nil
      } catch {
        logger.error("a job cannot be read", metadata: ["file": "\(path)", "error": "\(error)"])
        let job = TrainingJob(
          jobID: name,
          progress: TrainingProgress(
            jobID: name, version: String(name.drop { $0 != "-" }.dropFirst()), state: .failed,
            error: "\(path) cannot be read and is kept as job.damaged (\(error)). Start the job again."))
        if rename(path, path + ".damaged") == 0 { try? self.save(job) }
        return job
      }
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
