package import Artifacts
import Policy
import Schemas
package import ServiceKit
import Storage
import Synchronization

/// Models on this machine's disk, ready to act.
package actor ModelDisk {
  /// Versions kept on the disk; more come from the registry again when they are asked for.
  static let keptVersions = 16

  private let executor = QueueExecutor(label: "fleetloop.inference.models")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private static let part = "models"

  private let cabinet: ModelCabinet
  private let source: ModelSource
  private let vitals: Vitals

  /// - Parameters:
  ///   - trust: asked at every load, because training makes its key at its own first start.
  ///   - vitals: told of a disk that keeps no model.
  /// - Throws: ``ArtifactError`` `.fileSystem`.
  package init(
    folder: String, trust: @escaping @Sendable () throws -> ModelTrust, source: ModelSource,
    vitals: Vitals
  ) throws {
    self.cabinet = try ModelCabinet(
      folder: folder, kept: Self.keptVersions, executor: self.executor, trust: trust)
    self.source = source
    self.vitals = vitals
  }

  /// A model ready to act; the newest that the registry has where none is named.
  func load(_ name: ModelName) async throws -> ServedModel {
    let version = name.version.isEmpty ? try await self.newest() : name.version
    let model = try await self.fetch(version, name.sha256)
    let engine = try InferenceEngine(manifest: model.manifest, files: model.files)
    // The first answer prepares LibTorch's kernels for this network; a robot should not wait for that.
    let side = UInt32(engine.configuration.imageSize)
    if let task = engine.tasks.first {
      let blank = Observation(
        task: task, image: [UInt8](repeating: 0, count: engine.configuration.imageBytes),
        imageHeight: side, imageWidth: side,
        jointAngles: [Float](repeating: 0, count: engine.configuration.joints))
      _ = try engine.actions(for: [engine.prepare(blank)])
    }
    return ServedModel(manifest: model.manifest, sha256: model.sha256, engine: engine)
  }

  private func fetch(_ version: String, _ named: [UInt8]) async throws -> ModelCabinet.Model {
    do {
      let source = self.source
      let isFetched = Mutex(false)
      let model = try await self.cabinet.model(
        version,
        rule: { manifest, sha256 throws(ArtifactError) in
          try manifest.requireContent(sha256, named: named)
        },
        from: { request, take in
          try await source.fetch(request, take)
          isFetched.withLock { $0 = true }
        })
      // However little room there is, it was enough.
      if isFetched.withLock({ $0 }) { self.vitals.recover(Self.part) }
      return model
    } catch let error as ArtifactError where [.diskFull, .fileSystem].contains(error.code) {
      self.vitals.fail(Self.part, error.message)
      throw error
    }
  }

  /// Looks whether a disk that kept no model takes files again: nobody may ask for a model for hours.
  func probe() async {
    guard self.vitals.broken.contains(where: { $0.part == Self.part }) else { return }
    if (try? await self.cabinet.probe()) != nil { self.vitals.recover(Self.part) }
  }

  private func newest() async throws -> String {
    // Without the registry, the newest that was fetched before.
    let listed = try? await self.source.list()
    let manifests: [ModelManifest]
    if let listed { manifests = listed } else { manifests = (try? await self.cabinet.manifests()) ?? [] }
    guard let newest = manifests.max(by: { $0.serial < $1.serial }) else {
      throw InferenceError(
        .notFound,
        listed == nil
          ? "The registry does not answer, and no model is on this disk."
          : "There is no model yet; train one, and register it.")
    }
    return newest.version
  }
}
