package import Artifacts
package import Schemas
import Storage

/// The registry of models: a store of verified artifacts. Whole versions only, and each version once.
package actor ModelRegistry {
  /// Models that may come in at the same time.
  package static let maximumUploads = 4

  /// One model that is coming in.
  package struct Upload: Sendable, Hashable {
    fileprivate let number: Int
  }

  private let store: ArtifactStore
  private let loadTrust: @Sendable () throws(ArtifactError) -> ModelTrust
  private let executor = QueueExecutor(label: "fleetloop.rollout.registry")
  private var uploads: [Upload: (receiver: ArtifactReceiver, manifest: [UInt8]?)] = [:]
  private var touched: [Upload: ContinuousClock.Instant] = [:]
  private let patience: Duration
  private var downloads: [Int: ArtifactSender] = [:]
  private var count = 0

  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    self.executor.asUnownedSerialExecutor()
  }

  /// - Parameters:
  ///   - folder: where models are kept.
  ///   - patience: time without a chunk after which a model that is coming in gives way to another.
  ///   - trust: asked at each registration, so that a key may come or go while rollout runs.
  /// - Throws: `ArtifactError` `.fileSystem`.
  package init(
    folder: String, patience: Duration = .seconds(60),
    trust: @escaping @Sendable () throws(ArtifactError) -> ModelTrust
  ) throws(ArtifactError) {
    self.store = try ArtifactStore(folder: folder)
    self.loadTrust = trust
    self.patience = patience
    self.store.removeLeftovers()
  }

  // MARK: In

  package func begin() throws -> Upload {
    if self.uploads.count >= Self.maximumUploads {
      let limit = ContinuousClock.now - self.patience
      for (upload, last) in self.touched where last <= limit { self.abandon(upload) }
    }
    guard self.uploads.count < Self.maximumUploads else {
      throw RolloutError(
        .busy, "\(Self.maximumUploads) models are coming in already; try again in a moment.")
    }
    let trust = try self.loadTrust()
    self.count += 1
    let upload = Upload(number: self.count)
    let store = self.store
    let receiver = ArtifactReceiver(into: store) { signed throws(ArtifactError) in try trust.verify(signed) }
    self.uploads[upload] = (receiver, nil)
    self.touched[upload] = .now
    return upload
  }

  /// Takes one chunk. A version that exists with other content is refused as soon as its manifest is here.
  package func receive(_ chunk: ModelChunk, of upload: Upload) throws {
    guard var (receiver, bytes) = self.uploads.removeValue(forKey: upload) else {
      throw Self.gaveWay
    }
    try receiver.receive(chunk)
    if case .manifest(let signed) = chunk.part, let manifest = receiver.manifest {
      bytes = signed.manifest
      _ = try self.isRegistered(manifest.version, signed.manifest)
    }
    self.uploads[upload] = (receiver, bytes)
    self.touched[upload] = .now
  }

  /// - Throws: `CancellationError` where the caller gave it up: who then asks for the list must not find it there later.
  package func finish(_ upload: Upload) throws -> RegisterModelResponse {
    try Task.checkCancellation()
    guard case (var receiver, let bytes)? = self.uploads.removeValue(forKey: upload) else {
      throw Self.gaveWay
    }
    guard let manifest = receiver.manifest, let bytes else {
      throw ArtifactError(.incomplete, "The model ended before its manifest came.")
    }
    self.touched[upload] = nil
    // Looked at again: another upload of the same version may have ended meanwhile.
    let isKnown = try self.isRegistered(manifest.version, bytes)
    _ = try receiver.finish()
    return RegisterModelResponse(version: manifest.version, alreadyRegistered: isKnown)
  }

  private static var gaveWay: RolloutError {
    RolloutError(.busy, "This model stood still and gave way to others; send it again from its beginning.")
  }

  package func abandon(_ upload: Upload) {
    self.uploads[upload] = nil
    self.touched[upload] = nil
  }

  private func isRegistered(_ version: String, _ manifest: [UInt8]) throws -> Bool {
    guard self.contains(version) else { return false }
    guard try self.store.manifest(of: version).manifest == manifest else {
      throw RolloutError(
        .conflict,
        "Version \(version) is registered with other content; a version is never used again. Choose another.")
    }
    return true
  }

  // MARK: Out

  package func contains(_ version: String) -> Bool { (try? self.store.manifest(of: version)) != nil }

  /// SHA-256 in hex of a version's manifest; nil where none is registered, or none that is whole.
  /// - Throws: `ArtifactError` `.fileSystem` where the disk does not say.
  package func manifestHash(of version: String) throws(ArtifactError) -> String? {
    do throws(ArtifactError) {
      return Digest.hex(try self.store.manifest(of: version).sha256)
    } catch {
      if error.code == .fileSystem { throw error }
      return nil
    }
  }

  /// Oldest first. One that the disk damaged is left out: it can be registered again.
  package func manifests() throws -> [ModelManifest] {
    self.store.versions().compactMap { try? ManifestRules.decode(self.store.manifest(of: $0)) }
      .sorted {
        ($0.createdUnixNanos, $0.serial, $0.version) < ($1.createdUnixNanos, $1.serial, $1.version)
      }
  }

  /// Begins to send a model.
  /// - Returns: a number for ``next(_:)`` and ``end(_:)``.
  package func open(_ request: GetModelRequest) throws -> Int {
    self.count += 1
    self.downloads[self.count] = try ArtifactSender(
      request.version, from: self.store, skipping: request.haveSha256, manifestOnly: request.manifestOnly)
    return self.count
  }

  /// The next chunk; nil after the last.
  package func next(_ download: Int) throws -> ModelChunk? {
    guard var sender = self.downloads.removeValue(forKey: download) else { return nil }
    let chunk = try sender.next()?.get()
    self.downloads[download] = sender
    return chunk
  }

  package func end(_ download: Int) { self.downloads[download] = nil }
}
