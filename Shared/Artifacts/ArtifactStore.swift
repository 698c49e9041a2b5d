internal import Foundation
public import Schemas
internal import Storage

/// Models in a folder: `objects/<sha256>` holds each file once, whichever versions use it, and `manifests/<version>` what
/// a version is made of. Two versions that differ in one head share everything else.
///
/// Every write is whole or not at all, so any number of tasks, and a restart after `kill -9`, see only whole files.
public struct ArtifactStore: Sendable {
  public let folder: String

  /// Makes the folders where they are missing.
  /// - Throws: ``ArtifactError`` `.fileSystem`.
  public init(folder: String) throws(ArtifactError) {
    self.folder = folder
    try ArtifactFiles.makeFolder("\(folder)/objects")
    try ArtifactFiles.makeFolder("\(folder)/manifests")
  }

  /// Deletes what a crash left of writing. Call it before anybody writes here; what stays is only in nobody's way.
  public func removeLeftovers() {
    for part in ["objects", "manifests"] {
      _ = try? DurableFile.removeLeftovers(in: "\(self.folder)/\(part)")
    }
  }

  /// Looks whether the disk takes files.
  func probe() throws(ArtifactError) {
    for part in ["objects", "manifests"] { try ArtifactFiles.probe("\(self.folder)/\(part)") }
  }

  // MARK: Files

  /// Stores one file. Storing it again does nothing, unless the disk damaged it.
  /// - Returns: its line for a manifest.
  public func store(_ bytes: [UInt8], name: String) throws(ArtifactError) -> ModelFile {
    let file = ModelFile(name: name, bytes: UInt64(bytes.count), sha256: Digest.sha256(bytes))
    if !self.isWhole(file) { try ArtifactFiles.write(bytes, to: self.path(of: file.sha256)) }
    return file
  }

  /// Whether a file has this hash for a name; its content is not looked at.
  public func contains(_ sha256: [UInt8]) -> Bool {
    FileManager.default.fileExists(atPath: self.path(of: sha256))
  }

  /// Whether a file is here with the content that it should have.
  public func isWhole(_ file: ModelFile) -> Bool {
    self.contains(file.sha256) && (try? self.load(file)) != nil
  }

  /// Whether a file is here and whole; one that the disk damaged is deleted, whichever versions use it, so that it comes again.
  /// - Throws: ``ArtifactError`` `.invalidManifest` for a whole file that a manifest gives another size: others may use it.
  func keepOrDelete(_ file: ModelFile) throws(ArtifactError) -> Bool {
    guard self.contains(file.sha256) else { return false }
    let path = self.path(of: file.sha256)
    let bytes: [UInt8]?
    do throws(ArtifactError) {
      bytes = try self.read(path)
    } catch  where error.code == .corrupt || error.code == .tooLarge {
      bytes = nil
    }
    guard let bytes, Digest.sha256(bytes) == file.sha256 else {
      unlink(path)
      return false
    }
    guard UInt64(bytes.count) == file.bytes else {
      throw ArtifactError(
        .invalidManifest,
        "The manifest gives file '\(file.name)' \(file.bytes) bytes; what has its hash has \(bytes.count).")
    }
    return true
  }

  private func read(_ path: String) throws(ArtifactError) -> [UInt8] {
    try ArtifactFiles.read(path, limit: Int(clamping: ManifestRules.maximumModelBytes))
  }

  /// Reads a file and checks its hash.
  /// - Throws: ``ArtifactError`` `.notFound`, `.corrupt`.
  public func load(_ file: ModelFile) throws(ArtifactError) -> [UInt8] {
    let path = self.path(of: file.sha256)
    let bytes = try self.read(path)
    guard UInt64(bytes.count) == file.bytes, Digest.sha256(bytes) == file.sha256 else {
      throw Self.changed(file, at: path)
    }
    return bytes
  }

  /// Opens a file whose hash is right, to be read in pieces of at most ``ArtifactSender/pieceSize`` bytes: it is never in
  /// memory as a whole.
  /// - Throws: ``ArtifactError`` `.notFound`, `.corrupt`.
  func open(_ file: ModelFile) throws(ArtifactError) -> any DiskFile {
    let path = self.path(of: file.sha256)
    let opened = try ArtifactFiles.open(path)
    let size = try ArtifactFiles.size(of: opened)
    guard UInt64(size) == file.bytes else { throw Self.changed(file, at: path) }
    var digest = Digest.Running()
    for offset in stride(from: 0, to: size, by: ArtifactSender.pieceSize) {
      let count = min(ArtifactSender.pieceSize, size - offset)
      digest.add(try ArtifactFiles.read(opened, at: offset, count: count))
    }
    guard digest.finish() == file.sha256 else { throw Self.changed(file, at: path) }
    return opened
  }

  private static func changed(_ file: ModelFile, at path: String) -> ArtifactError {
    ArtifactError(
      .corrupt,
      "\(path) is not the file '\(file.name)' that the manifest names: its content has changed. "
        + "Delete it and fetch the model again.")
  }

  /// Where a file of this hash is or would be.
  public func path(of sha256: [UInt8]) -> String { "\(self.folder)/objects/\(Digest.hex(sha256))" }

  // MARK: Versions

  /// Keeps a manifest whose files are all here.
  /// - Throws: ``ArtifactError`` `.incomplete` where a file is missing.
  public func save(_ signed: SignedManifest) throws(ArtifactError) {
    let manifest = try ManifestRules.decode(signed)
    for file in manifest.files where !self.contains(file.sha256) {
      throw ArtifactError(
        .incomplete, "File '\(file.name)' of model \(manifest.version) is not in \(self.folder).")
    }
    try ArtifactFiles.write(signed.serializedBytes(), to: "\(self.folder)/manifests/\(manifest.version)")
  }

  /// - Throws: ``ArtifactError`` `.notFound`, `.invalidManifest`.
  public func manifest(of version: String) throws(ArtifactError) -> SignedManifest {
    guard Names.isValid(version) else {
      throw ArtifactError(.notFound, "'\(version.prefix(64))' is no version of a model.")
    }
    let bytes: [UInt8]
    do {
      bytes = try ArtifactFiles.read(
        "\(self.folder)/manifests/\(version)", limit: ManifestRules.maximumManifestBytes + 1024)
    } catch  where error.code == .notFound {
      throw ArtifactError(.notFound, "Model \(version) is not in \(self.folder).")
    }
    do {
      return try SignedManifest(serializedBytes: bytes)
    } catch {
      throw ArtifactError(
        .invalidManifest, "The manifest of model \(version) in \(self.folder) is damaged.", cause: error)
    }
  }

  /// Versions in alphabetical order.
  public func versions() -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "\(self.folder)/manifests")) ?? [])
      .filter { Names.isValid($0) && !$0.hasSuffix(".partial") }.sorted()
  }

  /// A version's manifest and files, all verified.
  /// - Parameter now: Unix time in nanoseconds at which its time must not be over.
  /// - Returns: the manifest, and the files' bytes by name.
  public func open(
    _ version: String, trust: ModelTrust, now: Int64 = ModelTrust.now()
  ) throws(ArtifactError) -> (manifest: ModelManifest, files: [String: [UInt8]]) {
    let manifest = try trust.verify(try self.manifest(of: version), now: now)
    guard manifest.version == version else {
      throw ArtifactError(
        .corrupt, "The manifest kept as \(version) is that of \(manifest.version). Fetch the model again.")
    }
    var files: [String: [UInt8]] = [:]
    for file in manifest.files { files[file.name] = try self.load(file) }
    return (manifest, files)
  }

  /// Forgets a version, then deletes the files that no other version uses.
  ///
  /// While the manifest of another is damaged nobody knows what that one uses, and all files stay.
  /// - Parameter whileFetching: whether files may be here whose manifest is yet to come. Then all stay, until the next removal.
  public func remove(_ version: String, whileFetching: Bool = false) throws(ArtifactError) {
    guard Names.isValid(version) else { return }
    unlink("\(self.folder)/manifests/\(version)")
    guard !whileFetching else { return }
    var used: Set<String> = []
    for other in self.versions() {
      guard let manifest = try? ManifestRules.decode(try self.manifest(of: other)) else { return }
      used.formUnion(manifest.files.map { Digest.hex($0.sha256) })
    }
    let objects = (try? FileManager.default.contentsOfDirectory(atPath: "\(self.folder)/objects")) ?? []
    for name in objects where name.count == 2 * Digest.size && !used.contains(name) {
      unlink("\(self.folder)/objects/\(name)")
    }
  }
}
