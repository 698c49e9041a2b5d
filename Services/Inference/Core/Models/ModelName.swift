import Artifacts
import Schemas

/// Which model is to act.
struct ModelName: Sendable, Hashable {
  /// Empty for the newest.
  let version: String
  /// SHA-256 of its manifest, 32 bytes; empty for any content.
  let sha256: [UInt8]

  /// - Throws: ``InferenceError`` `.invalid` for what names no model.
  init(_ version: String, sha256: [UInt8] = []) throws(InferenceError) {
    guard version.isEmpty || Names.isValid(version) else {
      throw InferenceError(.invalid, "'\(version.prefix(64))' is no version of a model.")
    }
    guard sha256.isEmpty || (sha256.count == Digest.size && !version.isEmpty) else {
      throw InferenceError(
        .invalid,
        "manifest_sha256 is the hash of a version's manifest, \(Digest.size) bytes, not \(sha256.count) of "
          + "version '\(version)'.")
    }
    (self.version, self.sha256) = (version, sha256)
  }

  /// Whether a model is the one that is meant.
  func means(_ model: ServedModel) -> Bool {
    (self.version.isEmpty || self.version == model.version)
      && (self.sha256.isEmpty || self.sha256 == model.sha256)
  }
}
