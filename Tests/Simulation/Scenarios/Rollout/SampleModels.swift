import Artifacts
import RobotCore
import Schemas

/// A registry of a few signed models, and the key that robots trust.
struct SampleModels {
  /// As many as a robot keeps, so that no robot deletes one: which is oldest is a matter of the machine's clock.
  static let versions = ["v1", "v2", "v3", "v4"]

  let trust: ModelTrust
  /// What the registry sends of each version.
  let chunks: [String: [ModelChunk]]
  /// SHA-256 in hex of each version's manifest.
  let hashes: [String: String]

  /// - Parameter folder: made where it is missing.
  init(folder: String) throws {
    let key = SigningKey()
    self.trust = ModelTrust(keys: [key.verificationKey])
    let store = try ArtifactStore(folder: folder)
    var chunks: [String: [ModelChunk]] = [:]
    var hashes: [String: String] = [:]
    for (index, version) in Self.versions.enumerated() {
      let file = try store.store(Array(version.utf8), name: "weights")
      let signed = try key.sign(
        ModelManifest(version: version, tasks: ["reach"], files: [file], serial: UInt64(index + 1)))
      try store.save(signed)
      hashes[version] = Digest.hex(signed.sha256)
      chunks[version] = try ArtifactSender(version, from: store).map { try $0.get() }
    }
    (self.chunks, self.hashes) = (chunks, hashes)
  }

  /// A policy that only has a name.
  struct Policy: LocalPolicy {
    let version: String
    func act(_ observation: Observation) async throws -> [Float] { [] }
  }
}
