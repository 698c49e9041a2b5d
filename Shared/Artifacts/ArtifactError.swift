/// What is wrong with a model artifact, or with the place where it is kept.
public struct ArtifactError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    /// The manifest cannot be read, or contradicts itself.
    case invalidManifest
    /// The signature does not fit the manifest: it was changed after it was signed, or never signed.
    case invalidSignature
    /// Nobody here trusts the key that signed.
    case untrustedKey
    /// The model's time is over.
    case expired
    /// The model is older than what an operator told this machine to trust, or than what it trusted before.
    case tooOld
    /// The model is not the one that was released: its version is, its content is another.
    case otherContent
    /// A file is not the one that the manifest names.
    case corrupt
    /// A file or a manifest is larger than what is accepted.
    case tooLarge
    /// Pieces of a model came in the wrong order or not at all.
    case incomplete
    /// Nothing has this name here.
    case notFound
    /// A key file cannot be used.
    case invalidKey
    /// A file or folder cannot be read or written.
    case fileSystem
    /// The disk is full: nothing was stored, nothing was lost; free space and try again.
    case diskFull

    /// Whether another copy may help: a damaged byte can look like a stranger's key or a wrong signature.
    public var isMended: Bool {
      switch self {
      case .notFound, .corrupt, .invalidManifest, .invalidSignature, .untrustedKey, .tooLarge, .incomplete,
        .otherContent:
        true
      case .expired, .tooOld, .invalidKey, .fileSystem, .diskFull: false
      }
    }
  }

  public var code: Code
  /// What happened, where, and what to do.
  public var message: String
  public var cause: (any Error)?

  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  public var description: String {
    "\(self.code.rawValue): \(self.message)" + (self.cause.map { " (\($0))" } ?? "")
  }
}
