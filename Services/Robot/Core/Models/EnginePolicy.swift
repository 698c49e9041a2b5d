import Dispatch
import Policy
package import Schemas

/// The robot's own copy of a model, on LibTorch.
package struct EnginePolicy: LocalPolicy {
  /// Inference blocks for some milliseconds, which no thread of the Swift pool may.
  private static let queue = DispatchQueue(label: "fleetloop.robot.policy", qos: .userInitiated)

  private let engine: InferenceEngine

  package var version: String { self.engine.version }

  /// - Throws: ``PolicyError`` where the files are no such network.
  @Sendable package static func load(
    _ manifest: ModelManifest, _ files: [String: [UInt8]]
  ) throws -> any LocalPolicy {
    EnginePolicy(engine: try InferenceEngine(manifest: manifest, files: files))
  }

  package func act(_ observation: Observation) async throws -> [Float] {
    let engine = self.engine
    return try await withCheckedThrowingContinuation { continuation in
      Self.queue.async {
        continuation.resume(
          with: Result { try engine.actions(for: [engine.prepare(observation)]).first ?? [] })
      }
    }
  }
}
