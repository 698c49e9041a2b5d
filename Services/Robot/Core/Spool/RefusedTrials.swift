import Storage
import Synchronization

/// The trials in `refused/`, and which of them somebody has still to be told of.
///
/// Beside each lies why it is there: in `NAME.untold` from before it is moved there until what tells of it is on the disk, and in
/// `NAME.reason` from then on. Whatever ends the agent between, the next one tells of it.
package final class RefusedTrials: Sendable {
  private static let untold = ".untold"
  private static let told = ".reason"
  private static let maximumReason = 1 << 16

  /// A trial that lies there, and that nobody may have been told of.
  package struct Untold: Sendable {
    package let trialID: String
    /// Where it lies.
    package let path: String
    package let reason: String
  }

  private let folder: String
  private let disk: any Disk
  /// Paths of trials of which it is told, though that may not be on the disk.
  private let told = Mutex<Set<String>>([])

  init(folder: String, disk: any Disk) {
    self.folder = folder
    self.disk = disk
  }

  /// Whether a name in the folder is a trial's, and no reason.
  static func isTrial(_ name: String) -> Bool {
    !name.hasSuffix(self.told) && !name.hasSuffix(self.untold) && !DurableFile.isLeftover(name)
  }

  /// Says why a trial is about to be moved there. An earlier attempt knew it better.
  func expect(_ path: String, reason: String) throws(StorageError) {
    guard try self.disk.size(of: path + Self.told) == nil else { return }
    guard try self.disk.size(of: path + Self.untold) == nil else {
      return try self.disk.synchronizeFolder(self.folder)
    }
    try DurableFile.write(Array((reason + "\n").utf8), to: path + Self.untold, on: self.disk)
  }

  /// A trial will not come. Nobody takes it for lost once this returns.
  func forget(_ path: String) throws(StorageError) {
    guard try self.disk.size(of: path + Self.untold) != nil else { return }
    try self.disk.remove(path + Self.untold)
    try self.disk.synchronizeFolder(self.folder)
  }

  /// Trials that somebody has to be told of: they lie where they are told to lie, whatever comes. Of one that is nowhere any
  /// more an empty file is left.
  /// - Parameters:
  ///   - ready: names of those that still wait for their upload.
  ///   - trialID: of a trial by the name of its file; nil where it is none.
  func untold(besides ready: Set<String>, _ trialID: (String) -> String?) throws(StorageError) -> [Untold] {
    var all: [Untold] = []
    for file in try self.disk.names(in: self.folder).sorted() where file.hasSuffix(Self.untold) {
      let name = String(file.dropLast(Self.untold.count))
      let path = "\(self.folder)/\(name)"
      guard let trialID = trialID(name), !ready.contains(name) else { continue }
      if try self.disk.size(of: path) == nil { try DurableFile.write([UInt8](), to: path, on: self.disk) }
      let bytes = try? DurableFile.read("\(self.folder)/\(file)", limit: Self.maximumReason, on: self.disk)
      let reason = bytes.map { String(decoding: $0.dropLast(), as: UTF8.self) } ?? "Why cannot be read."
      all.append(Untold(trialID: trialID, path: path, reason: reason))
    }
    // The agent that moved them may have ended before the disk confirmed it.
    if !all.isEmpty { try self.disk.synchronizeFolder(self.folder) }
    return all
  }

  /// Somebody is told of a trial.
  package func tell(_ path: String) { _ = self.told.withLock { $0.insert(path) } }

  /// What tells of them is on the disk. One that the disk does not rename is told again by the next agent.
  package func settle() {
    let told = self.told.withLock { told in
      defer { told = [] }
      return told
    }
    guard !told.isEmpty else { return }
    for path in told.sorted() { try? self.disk.move(path + Self.untold, to: path + Self.told) }
    try? self.disk.synchronizeFolder(self.folder)
  }
}
