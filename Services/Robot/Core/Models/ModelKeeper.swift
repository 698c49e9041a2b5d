package import Artifacts
import Foundation
package import Schemas
import Storage

/// The models on a robot's disk: fetched, verified, and kept, so that a robot without a network acts with the last good one.
package actor ModelKeeper {
  /// Makes a policy of verified files. Called on the keeper's own thread.
  package typealias Load =
    @Sendable (_ manifest: ModelManifest, _ files: [String: [UInt8]]) throws -> any LocalPolicy

  /// Versions kept: the one in use and those that a rollback may bring back.
  static let keptVersions = 4

  private let executor = QueueExecutor(label: "fleetloop.robot.models")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let store: ArtifactStore
  private let makeTrust: @Sendable () throws -> ModelTrust
  private let load: Load

  /// - Parameter trust: asked at every installation, because keys may come after the robot's start.
  /// - Throws: ``ArtifactError`` `.fileSystem`.
  package init(folder: String, trust: @escaping @Sendable () throws -> ModelTrust, load: @escaping Load)
    throws
  {
    self.folder = folder
    self.store = try ArtifactStore(folder: folder)
    self.makeTrust = trust
    self.load = load
  }

  /// The model that the robot acted with last; nil where there is none, or it may no longer act (it has expired, say).
  package func lastGood() -> (any LocalPolicy)? {
    guard let data = FileManager.default.contents(atPath: self.currentFile) else { return nil }
    return try? self.open(String(decoding: data, as: UTF8.self))
  }

  /// A version ready to act, from the disk or the registry. It becomes the last good one.
  /// - Throws: ``ArtifactError`` where it is not trusted, not whole or too old; an engine's error; what `fetch` throws.
  package func policy(version: String, fetch: ArtifactSource) async throws -> any LocalPolicy {
    if (try? self.store.manifest(of: version)) == nil { try await self.receive(version, fetch) }
    let policy: any LocalPolicy
    do {
      policy = try self.open(version)
    } catch let error as ArtifactError where error.code == .corrupt || error.code == .notFound {
      // A damaged disk: fetch once more what the hash gave away.
      try self.store.remove(version)
      try await self.receive(version, fetch)
      policy = try self.open(version)
    }
    try DurableFile.write(Array(version.utf8), to: self.currentFile)
    self.store.prune(keeping: version, count: Self.keptVersions)
    return policy
  }

  private var currentFile: String { "\(self.folder)/current" }

  private func open(_ version: String) throws -> any LocalPolicy {
    let (manifest, files) = try self.store.open(version, trust: try self.makeTrust())
    return try self.load(manifest, files)
  }

  private func receive(_ version: String, _ fetch: ArtifactSource) async throws {
    try await self.store.fetch(
      version, trust: try self.makeTrust(), executor: self.executor, from: fetch)
  }
}
