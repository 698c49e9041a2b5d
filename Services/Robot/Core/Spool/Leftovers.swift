package import Storage
import Synchronization

/// What crashes left of files that were being written, and the disk does not let go. It takes room and does no other harm, so
/// the robot starts all the same, and tries again.
package final class Leftovers: Sendable {
  private let disk: any Disk
  /// Why each of them is still there, by its path.
  private let stuck = Mutex<[String: String]>([:])

  package init(disk: any Disk) { self.disk = disk }

  /// Deletes what is left of small files in a folder. Call it before anybody writes there.
  /// - Throws: ``RobotError`` `.diskFailed` where the folder cannot be read.
  func remove(in folder: String) throws(RobotError) {
    let disk = self.disk
    let failures = try onDisk { () throws(StorageError) in
      try DurableFile.removeLeftovers(in: folder, on: disk)
    }
    self.stuck.withLock { stuck in
      for failure in failures { stuck[failure.path] = failure.error.message }
    }
  }

  /// Deletes one file.
  func remove(_ path: String) {
    var failure: String?
    do throws(StorageError) { try self.disk.remove(path) } catch { failure = error.message }
    self.stuck.withLock { $0[path] = failure }
  }

  /// Tries again to delete what the disk did not let go.
  func removeAgain() {
    for path in self.stuck.withLock({ $0.keys.sorted() }) { self.remove(path) }
  }

  /// What is still there, and why; nil where nothing is.
  package var unkept: String? {
    let stuck = self.stuck.withLock { $0 }
    guard let first = stuck.min(by: { $0.key < $1.key }) else { return nil }
    return "\(stuck.count) files that a crash left cannot be deleted, \(first.key) first: \(first.value)"
  }
}
