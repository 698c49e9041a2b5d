internal import Foundation
public import Schemas

/// Asks a registry for a model and hands over each chunk.
public typealias ArtifactSource =
  @Sendable (
    _ request: GetModelRequest, _ take: @escaping @Sendable (ModelChunk) async throws -> Void
  ) async throws -> Void

extension ArtifactStore {
  /// Fetches a version; of its files only those that are not here yet.
  /// - Parameter executor: where hashing and syncing may take their time.
  /// - Throws: ``ArtifactError`` where the model is not trusted, not whole or not the one asked for; what `source` throws.
  public func fetch(
    _ version: String, trust: ModelTrust, executor: any SerialExecutor, from source: ArtifactSource
  ) async throws {
    let intake = Intake(ArtifactReceiver(into: self, trust: trust), executor: executor)
    try await source(GetModelRequest(version: version, haveSha256: self.digests)) {
      try await intake.take($0)
    }
    let received = try await intake.finish()
    guard received == version else {
      throw ArtifactError(.corrupt, "The registry sent model \(received) where \(version) was asked for.")
    }
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
  private var digests: [[UInt8]] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "\(self.folder)/objects")) ?? [])
      .filter { $0.count == 2 * Digest.size }.compactMap { Digest.bytes(hex: $0) }
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

  /// - Returns: the version that came.
  func finish() throws -> String {
    _ = try self.receiver.finish()
    return self.receiver.manifest?.version ?? ""
  }
}
