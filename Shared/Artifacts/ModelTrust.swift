internal import Foundation
public import Schemas

/// Whose models are run here, and how old they may be.
public struct ModelTrust: Sendable {
  /// By ``VerificationKey/id``.
  private let keys: [String: VerificationKey]
  /// Models of a lower serial are refused.
  public var minimumSerial: UInt64

  public init(keys: [VerificationKey], minimumSerial: UInt64 = 0) {
    self.keys = Dictionary(keys.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
    self.minimumSerial = minimumSerial
  }

  /// Trusts every `*.pub` file of a folder, or one file.
  /// - Throws: ``ArtifactError`` `.notFound` where there is no key, `.invalidKey`.
  public init(path: String, minimumSerial: UInt64 = 0) throws(ArtifactError) {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw ArtifactError(
        .notFound,
        "There is no model key at \(path). Training makes it at its first start; copy its '*.pub' file here."
      )
    }
    guard isFolder.boolValue else {
      self.init(keys: [try VerificationKey(file: path)], minimumSerial: minimumSerial)
      return
    }
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [])
      .filter { $0.hasSuffix(".pub") }.sorted()
    guard !names.isEmpty else {
      throw ArtifactError(
        .notFound, "The folder \(path) holds no '*.pub' key; copy training's public key there.")
    }
    var keys: [VerificationKey] = []
    for name in names { keys.append(try VerificationKey(file: "\(path)/\(name)")) }
    self.init(keys: keys, minimumSerial: minimumSerial)
  }

  /// Checks signature, key, expiry, age, and that the manifest makes sense.
  /// - Parameter now: Unix time in nanoseconds.
  /// - Returns: the manifest; only then may its words be believed.
  public func verify(
    _ signed: SignedManifest, now: Int64 = Self.now()
  ) throws(ArtifactError) -> ModelManifest {
    guard let key = self.keys[signed.keyID] else {
      let known = self.keys.keys.sorted().joined(separator: ", ")
      throw ArtifactError(
        .untrustedKey,
        "A model is signed by key '\(signed.keyID.prefix(32))', which is not trusted here. Trusted: \(known)."
      )
    }
    guard key.isValid(signed.signature, for: signed.manifest) else {
      throw ArtifactError(
        .invalidSignature,
        "The signature by key \(key.id) does not fit the manifest: it was changed after it was signed. "
          + "Fetch the model again; if that fails too, train it again.")
    }
    let manifest = try ManifestRules.decode(signed)
    if manifest.expiresUnixNanos != 0, manifest.expiresUnixNanos <= now {
      let date = Date(timeIntervalSince1970: Double(manifest.expiresUnixNanos) / 1e9)
      throw ArtifactError(
        .expired, "Model \(manifest.version) expired on \(date.formatted(.iso8601)). Release a newer one.")
    }
    guard manifest.serial >= self.minimumSerial else {
      throw ArtifactError(
        .tooOld,
        "Model \(manifest.version) has serial \(manifest.serial); only \(self.minimumSerial) and newer are "
          + "trusted here. Release a newer one, or have an operator lower the bound.")
    }
    return manifest
  }

  /// Unix time in nanoseconds.
  public static func now() -> Int64 { Int64(Date.now.timeIntervalSince1970 * 1e9) }
}
