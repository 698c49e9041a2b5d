import Crypto
import Foundation
import Schemas
import Storage

/// Dataset snapshots, a durable file each: they survive a power cut and the loss of the catalog.
///
/// A file holds the CRC-32 of what follows, the length of the description, the description, and the trials' keys, one a line.
actor SnapshotFolder {
  private static let maximumBytes = 1 << 30

  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let disk: any Disk

  /// - Parameters:
  ///   - folder: made where it is missing.
  ///   - old: snapshots that an earlier version kept elsewhere; durable here, under the same names, once this returns.
  init(
    folder: String, disk: any Disk, runtime: Runtime,
    adopting old: [(id: String, description: [UInt8], keys: String)] = []
  ) throws(TrialsError) {
    self.folder = folder
    self.disk = disk
    self.executor = runtime.makeSerialExecutor("fleetloop.trials.snapshots")
    try TrialsError.disk { () throws(StorageError) in
      try disk.makeFolder(folder)
      try DurableFile.removeLeftovers(in: folder, on: disk)
      for (id, description, keys) in old where Self.isName(id) {
        try DurableFile.write(Self.file(description, keys: keys), to: "\(folder)/\(id)", on: disk)
      }
    }
  }

  /// Fixes trials under a name that depends on nothing but which they are.
  /// - Parameter names: sorted by robot and id.
  func make(_ description: DatasetSnapshot, of names: [TrialName]) throws -> DatasetSnapshot {
    let keys = names.map { "\($0.robot)/\($0.trialID)" }.joined(separator: "\n")
    var snapshot = description
    snapshot.snapshotID = ""
    for byte in SHA256.hash(data: Data(keys.utf8)).prefix(8) {
      snapshot.snapshotID += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
    }
    let file = Self.file(snapshot.serializedBytes(), keys: keys)
    let path = "\(self.folder)/\(snapshot.snapshotID)"
    try TrialsError.disk { () throws(StorageError) in try DurableFile.write(file, to: path, on: self.disk) }
    return snapshot
  }

  private static func file(_ description: [UInt8], keys: String) -> [UInt8] {
    var content = ByteWriter()
    content.integer(UInt32(description.count))
    content.bytes += description
    content.bytes += keys.utf8
    var file = ByteWriter()
    file.integer(CRC32.checksum(content.bytes))
    file.bytes += content.bytes
    return file.bytes
  }

  /// The trials of a snapshot, in its order.
  /// - Throws: ``TrialsError`` `.notFound` where there is none of this name, `.corrupt` where its file is damaged.
  func trials(of id: String) throws -> [TrialName] {
    guard Self.isName(id) else { throw Self.unknown(id) }
    let path = "\(self.folder)/\(id)"
    let bytes: [UInt8]
    do {
      bytes = try DurableFile.read(path, limit: Self.maximumBytes, on: self.disk)
    } catch {
      guard error.code == .notFound else {
        return try TrialsError.disk { () throws(StorageError) in throw error }
      }
      throw Self.unknown(id)
    }
    var reader = ByteReader(bytes[...])
    guard let crc: UInt32 = reader.integer(), CRC32.checksum(bytes.dropFirst(4)) == crc,
      let length: UInt32 = reader.integer(), reader.take(Int(length)) != nil
    else { throw TrialsError(.corrupt, "\(path) is damaged; make the snapshot again with CreateSnapshot.") }
    return bytes[reader.position...].split(separator: UInt8(ascii: "\n")).map { line in
      let parts = line.split(separator: UInt8(ascii: "/"), maxSplits: 1, omittingEmptySubsequences: false)
      return TrialName(
        robot: String(decoding: parts[0], as: UTF8.self),
        trialID: parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : "")
    }
  }

  private static func isName(_ id: String) -> Bool {
    id.utf8.count == 16 && id.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  private static func unknown(_ id: String) -> TrialsError {
    TrialsError(.notFound, "No snapshot is called '\(id)'; make one with CreateSnapshot.")
  }
}
