/// What a service could not do, said so that an operator can act on it.
public struct ServiceError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure this is.
  public enum Code: String, Sendable {
    /// A setting is unknown, malformed or out of range.
    case invalidConfiguration
    /// A file or folder cannot be read or written.
    case fileSystem
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
    guard let cause else { return "\(self.code.rawValue): \(self.message)" }
    return "\(self.code.rawValue): \(self.message) (\(cause))"
  }
}
