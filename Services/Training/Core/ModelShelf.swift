internal import Artifacts
internal import GRPCCore
internal import Policy
internal import Schemas
internal import Storage

/// The models that training knows: parents that it fetched, and its own until they are registered.
actor ModelShelf {
  private let executor = QueueExecutor(label: "fleetloop.training.models")
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let store: ArtifactStore
  private let key: SigningKey
  private let trust: ModelTrust
  private let peers: Peers

  init(folder: String, key: SigningKey, peers: Peers) throws {
    self.store = try ArtifactStore(folder: folder)
    self.key = key
    self.trust = ModelTrust(keys: [key.verificationKey])
    self.peers = peers
  }

  /// A parent's manifest and files, from here or the registry, verified.
  func parent(_ version: String) async throws -> (manifest: ModelManifest, files: [String: [UInt8]]) {
    if let model = try? self.store.open(version, trust: self.trust) { return model }
    let trust = self.trust
    try await self.store.fetch(
      version, verify: { signed throws(ArtifactError) in try trust.verify(signed) }, executor: self.executor,
      from: self.peers.fetch)
    return try self.store.open(version, trust: trust)
  }

  /// Signs and keeps a new model.
  func keep(
    _ manifest: ModelManifest, files: [(name: String, bytes: [UInt8])]
  ) throws -> ModelManifest {
    var manifest = manifest
    manifest.files = []
    for file in files { manifest.files.append(try self.store.store(file.bytes, name: file.name)) }
    try self.store.save(try self.key.sign(manifest))
    return manifest
  }

  /// The manifest of a model that was kept here; nil where it was not.
  func kept(_ version: String) -> ModelManifest? {
    (try? self.store.manifest(of: version)).flatMap { try? self.trust.verify($0) }
  }

  func forget(_ version: String) throws { try self.store.remove(version) }

  /// Sends a kept model to the registry. Sending it twice is harmless.
  func register(_ version: String) async throws {
    let sender = try ArtifactSender(version, from: self.store)
    let answer = try await self.peers.register { writer in
      for chunk in sender { try await writer.write(try chunk.get()) }
    }
    guard answer.version == version else {
      throw TrainingError(
        .unavailable, "The registry answered for model '\(answer.version)', not '\(version)'.")
    }
  }
}
