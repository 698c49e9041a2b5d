internal import Foundation
public import Schemas

/// Asks a registry for a model and hands over each chunk.
public typealias ArtifactSource =
  @Sendable (
    _ request: GetModelRequest, _ take: @escaping @Sendable (ModelChunk) async throws -> Void
  ) async throws -> Void

extension ArtifactStore {
  /// Fetches a version; of its files only those that are not here yet, or that the disk damaged.
  /// - Parameters:
  ///   - verify: decides about the manifest before a byte of its files is taken.
  ///   - executor: where hashing and syncing may take their time.
  /// - Throws: ``ArtifactError`` where the model is not trusted, not whole or not the one asked for; what `source` throws.
  public func fetch(
    _ version: String,
    verify: @escaping @Sendable (SignedManifest) throws(ArtifactError) -> ModelManifest,
    executor: any SerialExecutor, from source: ArtifactSource
  ) async throws {
    let asked = self.digests
    do {
      try await self.fetch(version, have: asked, verify, executor, source)
    } catch let error as ArtifactError where error.code == .incomplete && self.digests != asked {
      // The registry left out what this disk had damaged; that is deleted now, so that it comes.
      try await self.fetch(version, have: self.digests, verify, executor, source)
    }
  }

  private func fetch(
    _ version: String, have digests: Set<[UInt8]>,
    _ verify: @escaping @Sendable (SignedManifest) throws(ArtifactError) -> ModelManifest,
    _ executor: any SerialExecutor, _ source: ArtifactSource
  ) async throws {
    let receiver = ArtifactReceiver(into: self) { signed throws(ArtifactError) in
      let manifest = try verify(signed)
      guard manifest.version == version else {
        throw ArtifactError(
          .corrupt, "The registry sent model \(manifest.version) where \(version) was asked for.")
      }
      return manifest
    }
    let intake = Intake(receiver, executor: executor)
    let have = digests.sorted { $0.lexicographicallyPrecedes($1) }
    try await source(GetModelRequest(version: version, haveSha256: have)) { try await intake.take($0) }
    try await intake.finish()
  }

  /// Forgets all but the versions that came last.
  /// - Parameters:
  ///   - version: kept, whenever it came.
  ///   - count: versions that are kept, `version` among them; at least 1.
  public func prune(keeping version: String, count: Int) {
    let dated = self.versions().filter { $0 != version }.map { name in
      let attributes = try? FileManager.default.attributesOfItem(atPath: "\(self.folder)/manifests/\(name)")
      return (name: name, date: attributes?[.modificationDate] as? Date ?? .distantPast)
    }
    for (name, _) in dated.sorted(by: { $0.date > $1.date }).dropFirst(count - 1) { try? self.remove(name) }
  }

  /// Hashes of the files that are here.
  private var digests: Set<[UInt8]> {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(self.folder)/objects")) ?? []
    return Set(names.filter { $0.count == 2 * Digest.size }.compactMap { Digest.bytes(hex: $0) })
  }
}

/// One model on its way in.
private actor Intake {
  private let executor: any SerialExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }
  private var receiver: ArtifactReceiver

  init(_ receiver: ArtifactReceiver, executor: any SerialExecutor) {
    self.receiver = receiver
    self.executor = executor
  }

  func take(_ chunk: ModelChunk) throws { try self.receiver.receive(chunk) }

  func finish() throws { _ = try self.receiver.finish() }
}
