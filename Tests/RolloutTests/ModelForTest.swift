import Artifacts
import Bus
import Foundation
import GRPCCore
import Schemas

/// Signed models of random bytes.
struct ModelMaker {
  let key = SigningKey()
  let store: ArtifactStore

  init(folder: String) throws {
    self.store = try ArtifactStore(folder: "\(folder)/made")
    try self.key.verificationKey.write(to: "\(folder)/signing.pub")
  }

  /// The chunks of a new model.
  /// - Parameter sizes: bytes of each file.
  func make(_ version: String, sizes: [Int] = [700_000, 10], seed: UInt8 = 1) throws -> [ModelChunk] {
    let files = try sizes.enumerated().map { index, size in
      try self.store.store(
        (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) &+ seed }, name: "file-\(index)")
    }
    let manifest = ModelManifest(
      version: version, tasks: ["reach"], files: files, createdUnixNanos: Int64(seed))
    try self.store.save(try self.key.sign(manifest))
    return try self.chunks(version)
  }

  func chunks(_ version: String) throws -> [ModelChunk] {
    try ArtifactSender(version, from: self.store).map { try $0.get() }
  }
}

/// Registers over the wire.
func register(
  _ chunks: [ModelChunk], with client: GRPCClient<ZeroMQClientTransport>
) async throws -> RegisterModelResponse {
  try await ModelRegistryService.Client(wrapping: client).registerModel(options: .defaults) { writer in
    try await writer.write(contentsOf: chunks)
  }
}
