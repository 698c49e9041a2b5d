public import Schemas

/// What every manifest must keep to, signed or not: names that are safe as file names, and bounds.
public enum ManifestRules {
  /// Bytes of a serialized manifest.
  public static let maximumManifestBytes = 1 << 20
  /// Bytes of one file, and of all files of a model.
  public static let maximumModelBytes: UInt64 = 1 << 30
  public static let maximumFiles = 4_096
  public static let maximumTasks = 1_000

  /// The manifest in a signed one, checked; the signature is not looked at.
  public static func decode(_ signed: SignedManifest) throws(ArtifactError) -> ModelManifest {
    guard signed.manifest.count <= Self.maximumManifestBytes else {
      throw ArtifactError(
        .tooLarge,
        "A manifest has \(signed.manifest.count) bytes; at most \(Self.maximumManifestBytes) are accepted.")
    }
    let manifest: ModelManifest
    do {
      manifest = try ModelManifest(serializedBytes: signed.manifest)
    } catch {
      throw ArtifactError(.invalidManifest, "A manifest cannot be decoded.", cause: error)
    }
    try self.check(manifest)
    return manifest
  }

  /// - Throws: ``ArtifactError`` `.invalidManifest` or `.tooLarge`.
  public static func check(_ manifest: ModelManifest) throws(ArtifactError) {
    guard Names.isValid(manifest.version) else {
      throw ArtifactError(
        .invalidManifest,
        "'\(manifest.version.prefix(64))' is no version: \(Names.rule)."
      )
    }
    guard manifest.files.count <= Self.maximumFiles, manifest.tasks.count <= Self.maximumTasks else {
      throw ArtifactError(
        .tooLarge,
        "Model \(manifest.version) has \(manifest.files.count) files and \(manifest.tasks.count) tasks; "
          + "at most \(Self.maximumFiles) and \(Self.maximumTasks) are accepted.")
    }
    guard Set(manifest.tasks).count == manifest.tasks.count,
      Set(manifest.files.map(\.name)).count == manifest.files.count
    else {
      throw ArtifactError(.invalidManifest, "Model \(manifest.version) names a task or a file twice.")
    }
    var total: UInt64 = 0
    for file in manifest.files {
      guard Names.isValid(file.name), file.sha256.count == Digest.size else {
        throw ArtifactError(
          .invalidManifest, "Model \(manifest.version) has a file without a usable name or hash.")
      }
      let (sum, overflow) = total.addingReportingOverflow(file.bytes)
      guard !overflow, sum <= Self.maximumModelBytes else {
        throw ArtifactError(
          .tooLarge,
          "The files of model \(manifest.version) exceed \(Self.maximumModelBytes) bytes.")
      }
      total = sum
    }
  }
}
