package import Artifacts
import Foundation
import Policy
import Schemas
import Storage

/// Models on this machine's disk: fetched once, verified whenever they are loaded.
package actor ModelDisk {
  /// Versions kept on the disk; more come from the registry again when they are asked for.
  static let keptVersions = 16

  private let executor = QueueExecutor(label: "fleetloop.inference.models")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let store: ArtifactStore
  private let makeTrust: @Sendable () throws -> ModelTrust
  private let source: ModelSource

  /// - Parameter trust: asked at every load, because training makes its key at its own first start.
  /// - Throws: ``ArtifactError`` `.fileSystem`.
  package init(
    folder: String, trust: @escaping @Sendable () throws -> ModelTrust, source: ModelSource
  ) throws {
    self.store = try ArtifactStore(folder: folder)
    self.makeTrust = trust
    self.source = source
  }

  /// A version ready to act.
  /// - Parameter version: empty for the newest that the registry has.
  func load(_ version: String) async throws -> ServedModel {
    let version = version.isEmpty ? try await self.newest() : version
    if (try? self.store.manifest(of: version)) == nil { try await self.receive(version) }
    do {
      return try self.open(version)
    } catch let error as ArtifactError where error.code == .corrupt || error.code == .notFound {
      // A damaged disk: fetch once more what the hash gave away.
      try self.discardDamage(of: version)
      try await self.receive(version)
      return try self.open(version)
    }
  }

  private func open(_ version: String) throws -> ServedModel {
    let (manifest, files) = try self.store.open(version, trust: try self.makeTrust())
    let engine = try InferenceEngine(manifest: manifest, files: files)
    // The first answer prepares LibTorch's kernels for this network; a robot should not wait for that.
    let side = UInt32(engine.configuration.imageSize)
    if let task = engine.tasks.first {
      let blank = Observation(
        task: task, image: [UInt8](repeating: 0, count: engine.configuration.imageBytes),
        imageHeight: side, imageWidth: side,
        jointAngles: [Float](repeating: 0, count: engine.configuration.joints))
      _ = try engine.actions(for: [engine.prepare(blank)])
    }
    return ServedModel(manifest: manifest, engine: engine)
  }

  private func newest() async throws -> String {
    // Without the registry, the newest that was fetched before.
    let listed = try? await self.source.list()
    let manifests = listed ?? self.verified()
    guard let newest = manifests.max(by: { $0.serial < $1.serial }) else {
      throw InferenceError(
        .notFound,
        listed == nil
          ? "The registry does not answer, and no model is on this disk."
          : "There is no model yet; train one, and register it.")
    }
    return newest.version
  }

  private func verified() -> [ModelManifest] {
    guard let trust = try? self.makeTrust() else { return [] }
    return self.store.versions().compactMap { version in
      (try? self.store.manifest(of: version)).flatMap { try? trust.verify($0) }
    }
  }

  // MARK: Fetching

  private func receive(_ version: String) async throws {
    guard ManifestRules.isName(version) else {
      throw InferenceError(.invalid, "'\(version.prefix(64))' is no version of a model.")
    }
    try await self.store.fetch(
      version, trust: try self.makeTrust(), executor: self.executor, from: self.source.fetch)
    self.store.prune(keeping: version, count: Self.keptVersions)
  }

  /// Deletes the files whose content is not what the manifest says, so that they come again.
  private func discardDamage(of version: String) throws {
    let manifest = try ManifestRules.decode(try self.store.manifest(of: version))
    for file in manifest.files where (try? self.store.load(file)) == nil {
      try? FileManager.default.removeItem(atPath: self.store.path(of: file.sha256))
    }
    try? FileManager.default.removeItem(atPath: "\(self.store.folder)/manifests/\(version)")
  }
}
