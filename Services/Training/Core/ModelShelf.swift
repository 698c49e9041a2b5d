internal import Artifacts
internal import GRPCCore
internal import Policy
internal import Schemas
internal import Storage
internal import Synchronization

/// The models that training knows: parents that it fetched, and its own until they are registered.
actor ModelShelf {
  private let executor = QueueExecutor(label: "fleetloop.training.models")
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let store: ArtifactStore
  private let key: SigningKey
  private let trust: ModelTrust
  private let peers: Peers
  /// Parents that are being fetched: what came of them belongs to no manifest yet.
  private var fetches = 0

  init(folder: String, key: SigningKey, peers: Peers) throws {
    self.store = try ArtifactStore(folder: folder)
    self.key = key
    self.trust = ModelTrust(keys: [key.verificationKey])
    self.peers = peers
    self.store.removeLeftovers()
  }

  /// A parent's manifest and files, from here or the registry, verified.
  /// - Parameter begun: whether a job has learned from it already. Its time may be over then: it is about acting, and about
  ///   what begins.
  func parent(
    _ version: String, begun: Bool
  ) async throws -> (manifest: ModelManifest, files: [String: [UInt8]]) {
    let trust = self.trust
    let now = begun ? Int64.min : ModelTrust.now()
    if let model = try? self.store.open(version, trust: trust, now: now) { return model }
    self.fetches += 1
    defer { self.fetches -= 1 }
    try await self.store.fetch(
      version, verify: { signed throws(ArtifactError) in try trust.verify(signed, now: now) },
      executor: self.executor, from: self.peers.fetch)
    return try self.store.open(version, trust: trust, now: now)
  }

  /// Signs and keeps a new model. Kept again it is what it was, and the registry takes it for the same.
  /// - Throws: ``TrainingError`` `.invalidRequest` for one that nobody would accept, however often it is made;
  ///   ``Artifacts/ArtifactError`` where the disk does not take it.
  func keep(
    _ manifest: ModelManifest, files: [(name: String, bytes: [UInt8])]
  ) throws -> ModelManifest {
    var manifest = manifest
    manifest.files = []
    for file in files { manifest.files.append(try self.store.store(file.bytes, name: file.name)) }
    let signed = try self.key.sign(manifest)
    do { _ = try ManifestRules.decode(signed) } catch {
      throw TrainingError(.invalidRequest, "The model cannot be kept.", cause: error)
    }
    if let kept = try? self.manifest(of: manifest.version), kept.files == manifest.files { return kept }
    try self.store.save(signed)
    return manifest
  }

  /// The manifest of a model that was kept here; nil where it was not, where its time is over, or where it is not whole.
  func kept(_ version: String) -> ModelManifest? {
    (try? self.store.open(version, trust: self.trust))?.manifest
  }

  private func manifest(of version: String) throws -> ModelManifest {
    try self.trust.verify(self.store.manifest(of: version))
  }

  func forget(_ version: String) throws {
    try self.store.remove(version, whileFetching: self.fetches > 0)
  }

  /// Sends a kept model to the registry. Sending it twice is harmless.
  /// - Throws: ``Artifacts/ArtifactError`` where it is not whole, its time is over or the disk does not give it; what the registry
  ///   says of it.
  func register(_ version: String) async throws {
    _ = try self.manifest(of: version)
    let sender = try ArtifactSender(version, from: self.store)
    // The call says only that nothing more was written.
    let unread = Mutex<ArtifactError?>(nil)
    let answer: RegisterModelResponse
    do {
      answer = try await self.peers.register { writer in
        for chunk in sender {
          do { try await writer.write(try chunk.get()) } catch let error as ArtifactError {
            unread.withLock { $0 = error }
            throw error
          }
        }
      }
    } catch {
      throw unread.withLock { $0 } ?? error
    }
    guard answer.version == version else {
      throw TrainingError(
        .unavailable, "The registry answered for model '\(answer.version)', not '\(version)'.")
    }
  }
}
