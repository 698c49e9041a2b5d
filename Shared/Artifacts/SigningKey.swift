internal import Crypto
internal import Foundation
public import Schemas
import Storage

/// The private half of an Ed25519 key pair (RFC 8032): whoever trains signs with it.
public struct SigningKey: Sendable {
  // Stored as bytes: the seed is all there is to the key.
  private let seed: [UInt8]
  public let verificationKey: VerificationKey

  /// A new key.
  public init() {
    let key = Curve25519.Signing.PrivateKey()
    self.seed = Array(key.rawRepresentation)
    self.verificationKey = VerificationKey(unchecked: Array(key.publicKey.rawRepresentation))
  }

  private init(seed: [UInt8]) throws {
    let key = try Curve25519.Signing.PrivateKey(rawRepresentation: seed)
    self.seed = seed
    self.verificationKey = VerificationKey(unchecked: Array(key.publicKey.rawRepresentation))
  }

  /// Reads a key file: 64 hexadecimal digits.
  /// - Throws: ``ArtifactError`` `.invalidKey` where others may read the file or it holds no key; `.notFound`.
  public init(file path: String) throws(ArtifactError) {
    let text = try ArtifactFiles.read(path, limit: 1 << 10)
    var information = stat()
    guard stat(path, &information) == 0 else {
      throw ArtifactError(.fileSystem, "Cannot look at \(path): \(String(cString: strerror(errno))).")
    }
    guard information.st_mode & 0o077 == 0 else {
      throw ArtifactError(
        .invalidKey, "Others may read the signing key \(path). Run: chmod 600 \(path)")
    }
    let digits = String(decoding: text, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    guard let seed = Digest.bytes(hex: digits), let key = try? SigningKey(seed: seed) else {
      throw ArtifactError(.invalidKey, "\(path) holds no Ed25519 key; it must be 64 hexadecimal digits.")
    }
    self = key
  }

  /// Where the public half of the key in a file is: `keys/signing.pub` beside `keys/signing.key`.
  public static func publicPath(of path: String) -> String {
    (path as NSString).deletingPathExtension + ".pub"
  }

  /// The key in a file, made on first use; ``publicPath(of:)`` holds the public half for those who verify.
  /// - Throws: ``ArtifactError``.
  public static func loadOrCreate(at path: String) throws(ArtifactError) -> SigningKey {
    do {
      return try SigningKey(file: path)
    } catch  where error.code == .notFound {
      let key = SigningKey()
      try ArtifactFiles.makeFolder(DurableFile.folder(of: path))
      // Public half first: a key that signs is then never without the half that verifies.
      try key.verificationKey.write(to: self.publicPath(of: path))
      try ArtifactFiles.write(Array(Digest.hex(key.seed).utf8), to: path, mode: 0o600)
      return key
    }
  }

  /// Signs a manifest. What is signed is exactly the bytes that travel.
  public func sign(_ manifest: ModelManifest) throws(ArtifactError) -> SignedManifest {
    let bytes = manifest.serializedBytes()
    do {
      let key = try Curve25519.Signing.PrivateKey(rawRepresentation: self.seed)
      return SignedManifest(
        manifest: bytes, signature: Array(try key.signature(for: bytes)), keyID: self.verificationKey.id)
    } catch {
      throw ArtifactError(.invalidKey, "Cannot sign model \(manifest.version).", cause: error)
    }
  }
}

/// The public half: whoever runs models holds the ones that it trusts.
public struct VerificationKey: Sendable, Hashable {
  /// 32 bytes.
  public let bytes: [UInt8]

  /// - Throws: ``ArtifactError`` `.invalidKey`.
  public init(bytes: [UInt8]) throws(ArtifactError) {
    guard (try? Curve25519.Signing.PublicKey(rawRepresentation: bytes)) != nil else {
      throw ArtifactError(.invalidKey, "An Ed25519 public key has 32 bytes, not \(bytes.count).")
    }
    self.bytes = bytes
  }

  /// For bytes that came out of a key.
  init(unchecked bytes: [UInt8]) { self.bytes = bytes }

  /// Reads a file of 64 hexadecimal digits.
  public init(file path: String) throws(ArtifactError) {
    let text = String(decoding: try ArtifactFiles.read(path, limit: 1 << 10), as: UTF8.self)
    guard let bytes = Digest.bytes(hex: text.trimmingCharacters(in: .whitespacesAndNewlines)),
      let key = try? VerificationKey(bytes: bytes)
    else {
      throw ArtifactError(
        .invalidKey, "\(path) holds no Ed25519 public key; it must be 64 hexadecimal digits.")
    }
    self = key
  }

  /// Lower-case hex of the first 8 bytes of the key's SHA-256.
  public var id: String { Digest.hex(Digest.sha256(self.bytes).prefix(8)) }

  public func write(to path: String) throws(ArtifactError) {
    try ArtifactFiles.write(Array("\(Digest.hex(self.bytes))\n".utf8), to: path)
  }

  func isValid(_ signature: [UInt8], for bytes: [UInt8]) -> Bool {
    let key = try? Curve25519.Signing.PublicKey(rawRepresentation: self.bytes)
    return key?.isValidSignature(signature, for: bytes) ?? false
  }
}
