internal import Artifacts
internal import Foundation
internal import Schemas
internal import ServiceKit
internal import Storage

/// Jobs on disk, each a folder: `job` (a TrainingJob with its checksum), `snapshot` (its name), `checkpoint`, and `cancelled`
/// once somebody wants no model. What is written is whole or old.
struct JobStore: Sendable {
  /// Jobs that are remembered; the oldest that have ended are deleted.
  static let maximumJobs = 500
  /// Bytes of a checkpoint that is read.
  static let maximumCheckpointBytes = 4 << 30

  private static let maximumJobBytes = 4 << 20

  let folder: String
  private let vitals: Vitals
  private let lock: FolderLock

  /// - Parameter vitals: told of jobs that cannot be read, and whether the disk takes what is written.
  /// - Throws: `StorageError` `.inUse` where another training process owns the folder.
  init(folder: String, vitals: Vitals) throws {
    self.folder = folder
    self.vitals = vitals
    self.lock = try FolderLock(folder: folder, owner: "training")
  }

  func save(_ job: TrainingJob) throws {
    let bytes: [UInt8] = job.serializedBytes()
    let path = "\(self.folder)/\(job.jobID)"
    try self.writing { () throws(StorageError) in
      try SystemDisk().makeFolder(path)
      try CheckedFile.write(bytes, to: "\(path)/job")
    }
  }

  /// Every job, oldest first. One that cannot be read stays as it is.
  /// - Returns: the jobs, and a sentence about each that cannot be read.
  /// - Throws: `StorageError` where the folder cannot be read.
  func load() throws(StorageError) -> (jobs: [TrainingJob], damages: [String]) {
    var jobs: [TrainingJob] = []
    var damages: [String] = []
    for name in try SystemDisk().names(in: self.folder).sorted() {
      let path = "\(self.folder)/\(name)"
      guard try SystemDisk().isFolder(path) else { continue }
      do {
        let bytes = try CheckedFile.read("\(path)/job", limit: Self.maximumJobBytes)
        jobs.append(try TrainingJob(serializedBytes: bytes))
      } catch let error as StorageError where error.code == .notFound {
        // A kill came before the job was taken.
      } catch {
        damages.append(
          "The job in \(path) cannot be read (\(error)). Training goes on without it and leaves it as it is: mend or "
            + "delete that folder, then start training again.")
      }
    }
    self.vitals.hold("jobs", damages)
    return (jobs, damages)
  }

  /// Keeps that nobody wants a job's model.
  func cancel(_ job: String) throws {
    try self.writing { () throws(StorageError) in
      try DurableFile.write([UInt8](), to: "\(self.folder)/\(job)/cancelled")
    }
  }

  func isCancelled(_ job: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(self.folder)/\(job)/cancelled")
  }

  private func writing(_ body: () throws(StorageError) -> Void) throws(StorageError) {
    do throws(StorageError) {
      try body()
      self.vitals.recover("job store")
    } catch {
      self.vitals.fail("job store", error.message)
      throw error
    }
  }

  func saveSnapshot(_ name: String, of job: String) throws {
    try self.writing { () throws(StorageError) in
      try DurableFile.write(Array(name.utf8), to: "\(self.folder)/\(job)/snapshot")
    }
  }

  func snapshot(of job: String) -> String? {
    (try? DurableFile.read("\(self.folder)/\(job)/snapshot", limit: 1 << 10))
      .map { String(decoding: $0, as: UTF8.self) }
  }

  func saveCheckpoint(_ bytes: [UInt8], of job: String) throws {
    try self.writing { () throws(StorageError) in
      try DurableFile.write(bytes, to: "\(self.folder)/\(job)/checkpoint")
    }
  }

  func checkpoint(of job: String) -> [UInt8]? {
    try? DurableFile.read("\(self.folder)/\(job)/checkpoint", limit: Self.maximumCheckpointBytes)
  }

  func deleteCheckpoint(of job: String) {
    try? FileManager.default.removeItem(atPath: "\(self.folder)/\(job)/checkpoint")
  }

  func delete(_ job: String) { try? FileManager.default.removeItem(atPath: "\(self.folder)/\(job)") }
}
