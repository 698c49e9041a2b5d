internal import Foundation
internal import Schemas
internal import ServiceKit
internal import Storage

/// Jobs on disk, each a folder: `job` (a TrainingJob) and `snapshot` (its name, and how many trials it has) with their
/// checksums, `checkpoint`, and `cancelled` once somebody wants no model. What is written is whole or old.
struct JobStore: Sendable {
  /// Jobs that are remembered; the oldest that have ended are deleted.
  static let maximumJobs = 500
  /// Bytes of a checkpoint that is read.
  static let maximumCheckpointBytes = 4 << 30

  private static let maximumJobBytes = 4 << 20

  /// A job that cannot be read.
  struct Damage {
    /// Its folder, which stays as it is.
    var folder: String
    /// What is wrong, and what to do.
    var text: String
  }

  /// The trials that a job learns from.
  struct Snapshot {
    var id: String
    /// How many they are; nil in a file of before this was kept.
    var trials: UInt32?
  }

  let folder: String
  private let vitals: Vitals
  private let disk: any Disk
  private let lock: FolderLock

  /// - Parameter vitals: told of jobs that cannot be read, and whether the disk takes what is written.
  /// - Throws: `StorageError` `.inUse` where another training process owns the folder.
  init(folder: String, vitals: Vitals, disk: any Disk = SystemDisk()) throws {
    self.folder = folder
    self.vitals = vitals
    self.disk = disk
    self.lock = try FolderLock(folder: folder, owner: "training")
  }

  // MARK: Jobs

  func save(_ job: TrainingJob) throws(StorageError) {
    let bytes: [UInt8] = job.serializedBytes()
    let path = "\(self.folder)/\(job.jobID)"
    try self.writing(.jobs) { () throws(StorageError) in
      try self.disk.makeFolder(path)
      try CheckedFile.write(bytes, to: "\(path)/job", on: self.disk)
    }
  }

  /// Every job, oldest first, rid of what kills left of writing. One that cannot be read stays as it is.
  /// - Throws: `StorageError` where the folder cannot be read.
  func load() throws(StorageError) -> (jobs: [TrainingJob], damages: [Damage]) {
    var jobs: [TrainingJob] = []
    var damages: [Damage] = []
    for name in try self.disk.names(in: self.folder).sorted() {
      let path = "\(self.folder)/\(name)"
      guard try self.disk.isFolder(path) else { continue }
      _ = try? DurableFile.removeLeftovers(in: path, on: self.disk)
      do {
        let job = try self.read(name)
        jobs.append(job)
        if job.hasEnded { try? self.deleteCheckpoint(of: name) }
      } catch let error as StorageError where error.code == .notFound {
        // A kill came before the job was taken.
      } catch {
        damages.append(
          Damage(
            folder: path,
            text: "The job in \(path) cannot be read (\(error)). Training goes on without it and leaves "
              + "it as it is: mend or delete that folder, then start training again."))
      }
    }
    return (jobs, damages)
  }

  private func read(_ name: String) throws -> TrainingJob {
    let path = "\(self.folder)/\(name)/job"
    do {
      let bytes = try CheckedFile.read(path, limit: Self.maximumJobBytes, on: self.disk)
      return try TrainingJob(serializedBytes: bytes)
    } catch let error as StorageError where error.code == .corrupt {
      // One of before there were checksums begins with the key of its id, from which no hexadecimal digit is one bit away.
      let bytes = try DurableFile.read(path, limit: Self.maximumJobBytes, on: self.disk)
      guard bytes.first == 0x0A, let job = try? TrainingJob(serializedBytes: bytes), job.jobID == name else {
        throw error
      }
      try? self.save(job)
      return job
    }
  }

  func delete(_ job: String) { try? FileManager.default.removeItem(atPath: "\(self.folder)/\(job)") }

  // MARK: Cancellation

  /// Keeps that nobody wants a job's model.
  func cancel(_ job: String) throws(StorageError) {
    let path = "\(self.folder)/\(job)/cancelled"
    let wasThere = try self.isCancelled(job)
    try self.writing(.jobs) { () throws(StorageError) in
      do throws(StorageError) { try DurableFile.write([UInt8](), to: path, on: self.disk) } catch {
        // It stands where only the folder's sync failed, and would end a job that is said to go on.
        if !wasThere { try? self.disk.remove(path) }
        throw error
      }
    }
  }

  func isCancelled(_ job: String) throws(StorageError) -> Bool {
    try self.disk.size(of: "\(self.folder)/\(job)/cancelled") != nil
  }

  // MARK: What a job learns

  func saveSnapshot(_ snapshot: Snapshot, of job: String) throws(StorageError) {
    let text = [snapshot.id, snapshot.trials.map { "\($0)" }].compactMap(\.self).joined(separator: "\n")
    try self.writing(.jobs) { () throws(StorageError) in
      try CheckedFile.write(Array(text.utf8), to: "\(self.folder)/\(job)/snapshot", on: self.disk)
    }
  }

  /// - Returns: nil where none was saved.
  /// - Throws: `StorageError` `.corrupt` where its name is lost.
  func snapshot(of job: String) throws(StorageError) -> Snapshot? {
    let path = "\(self.folder)/\(job)/snapshot"
    do throws(StorageError) {
      return Self.snapshot(try CheckedFile.read(path, limit: 1 << 10, on: self.disk))
    } catch {
      if error.code == .notFound { return nil }
      // One of before there were checksums is shorter than the line of one.
      guard error.code == .corrupt, let bytes = try? DurableFile.read(path, limit: 64, on: self.disk),
        !bytes.isEmpty
      else { throw error }
      return Self.snapshot(bytes)
    }
  }

  private static func snapshot(_ bytes: [UInt8]) -> Snapshot {
    let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\n")
    return Snapshot(id: lines[0], trials: lines.count > 1 ? UInt32(lines[1]) : nil)
  }

  func saveCheckpoint(_ bytes: [UInt8], of job: String) throws(StorageError) {
    try self.writing(.checkpoints) { () throws(StorageError) in
      try DurableFile.write(bytes, to: self.checkpoint(job), on: self.disk)
    }
  }

  /// - Returns: nil where none was saved.
  func checkpoint(of job: String) throws(StorageError) -> [UInt8]? {
    do throws(StorageError) {
      return try DurableFile.read(
        self.checkpoint(job), limit: Self.maximumCheckpointBytes, on: self.disk)
    } catch {
      guard error.code == .notFound else { throw error }
      return nil
    }
  }

  /// Whether a job has learned something; where the disk does not say so, it may have.
  func hasCheckpoint(_ job: String) -> Bool {
    do throws(StorageError) {
      return try self.disk.size(of: self.checkpoint(job)) != nil
    } catch {
      return true
    }
  }

  func deleteCheckpoint(of job: String) throws(StorageError) {
    try self.disk.remove(self.checkpoint(job))
  }

  private func checkpoint(_ job: String) -> String { "\(self.folder)/\(job)/checkpoint" }

  // MARK: How the disk does

  /// What the disk has to take. A job's file fits where a checkpoint does not.
  private enum Part: String, CaseIterable { case jobs = "job store", checkpoints }

  private func writing(_ part: Part, _ body: () throws(StorageError) -> Void) throws(StorageError) {
    do throws(StorageError) {
      try body()
      self.vitals.recover(part.rawValue)
    } catch {
      self.vitals.fail(part.rawValue, error.message)
      throw error
    }
  }

  /// Looks whether a disk that took something not takes files again.
  func probe() {
    let broken = Set(self.vitals.broken.map(\.part))
    for part in Part.allCases where broken.contains(part.rawValue) {
      try? self.writing(part) { () throws(StorageError) in try DurableFile.probe(self.folder, on: self.disk) }
    }
  }

  /// Tells of damaged jobs until who looked at them has deleted them; what was mended is read at the next start.
  func tell(_ damages: [Damage]) {
    self.vitals.hold("jobs", damages.filter { (try? self.disk.isFolder($0.folder)) != false }.map(\.text))
  }
}
