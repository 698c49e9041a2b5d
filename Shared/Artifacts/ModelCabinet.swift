public import Schemas

/// The models that a machine keeps: fetched once, verified whenever they are opened, and mended when the disk damaged them.
///
/// A damaged file is deleted, whichever versions share it, and comes again with the next version that needs it.
public actor ModelCabinet {
  /// A version, verified and whole.
  public struct Model: Sendable {
    public var manifest: ModelManifest
    /// SHA-256 of the manifest that was signed: it names the content.
    public var sha256: [UInt8]
    /// The files' bytes by name.
    public var files: [String: [UInt8]]
  }

  /// Says why a manifest that is trusted as such is not wanted here.
  public typealias Rule =
    @Sendable (_ manifest: ModelManifest, _ sha256: [UInt8]) throws(ArtifactError) -> Void

  private let store: ArtifactStore
  private let kept: Int
  private let executor: any SerialExecutor
  private let makeTrust: @Sendable () throws -> ModelTrust
  /// Versions that are being fetched: what came of them belongs to no manifest yet.
  private var fetches = 0

  public nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  /// - Parameters:
  ///   - kept: versions that stay on the disk, at least 1; more come from the registry again when they are asked for.
  ///   - executor: where reading and hashing may take their time.
  ///   - trust: asked whenever a model is opened, because keys may come after the start.
  /// - Throws: ``ArtifactError`` `.fileSystem`.
  public init(
    folder: String, kept: Int, executor: any SerialExecutor,
    trust: @escaping @Sendable () throws -> ModelTrust
  ) throws(ArtifactError) {
    self.store = try ArtifactStore(folder: folder)
    self.kept = kept
    self.executor = executor
    self.makeTrust = trust
    self.store.removeLeftovers()
  }

  /// A version from this disk alone.
  /// - Throws: ``ArtifactError`` where it is not here, not whole or not trusted; what `rule` throws.
  public func open(_ version: String, rule: Rule = { _, _ in }) throws -> Model {
    let trust = try self.makeTrust()
    let signed = try self.store.manifest(of: version)
    let (manifest, files) = try self.store.open(version, trust: trust)
    try rule(manifest, signed.sha256)
    return Model(manifest: manifest, sha256: signed.sha256, files: files)
  }

  /// A version from this disk, or from a registry where it is not here, damaged, or not what `rule` asks for.
  /// - Throws: ``ArtifactError`` where it is not trusted or not whole; what `rule` and `source` throw.
  public func model(
    _ version: String, rule: @escaping Rule = { _, _ in }, from source: ArtifactSource
  ) async throws -> Model {
    do {
      return try self.open(version, rule: rule)
    } catch let error as ArtifactError where error.code.isMended {
      // Whoever receives it keeps what is whole here, and has the rest sent.
    }
    let trust = try self.makeTrust()
    self.fetches += 1
    defer { self.fetches -= 1 }
    try await self.store.fetch(
      version,
      verify: { signed throws(ArtifactError) in
        let manifest = try trust.verify(signed)
        try rule(manifest, signed.sha256)
        return manifest
      }, executor: self.executor, from: source)
    let model = try self.open(version, rule: rule)
    if self.fetches == 1 { self.store.prune(keeping: version, count: self.kept) }
    return model
  }

  /// Looks whether the disk takes files.
  /// - Throws: ``ArtifactError`` `.diskFull` or `.fileSystem`.
  public func probe() throws(ArtifactError) { try self.store.probe() }

  /// Manifests of the versions on this disk that are trusted.
  public func manifests() throws -> [ModelManifest] {
    let trust = try self.makeTrust()
    return self.store.versions().compactMap { version in
      (try? self.store.manifest(of: version)).flatMap { try? trust.verify($0) }
    }
  }
}

extension ModelManifest {
  /// Refuses any content but the one that was named.
  /// - Parameters:
  ///   - sha256: of this manifest as it was signed.
  ///   - named: of the one that is wanted; empty for any.
  /// - Throws: ``ArtifactError`` `.otherContent`.
  public func requireContent(_ sha256: [UInt8], named: [UInt8]) throws(ArtifactError) {
    guard named.isEmpty || named == sha256 else {
      throw ArtifactError(
        .otherContent,
        "Model \(self.version) has manifest \(Digest.hex(sha256.prefix(6)))…, and \(Digest.hex(named.prefix(6)))… is "
          + "named for it. Release what is registered, under a version of its own.")
    }
  }
}

extension SignedManifest {
  /// What names the content of a model: SHA-256 of the bytes that are signed.
  public var sha256: [UInt8] { Digest.sha256(self.manifest) }
}
