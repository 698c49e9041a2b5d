/// What the command line could not do, said so that its user can act on it.
public struct FleetError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    /// A program that belongs to FleetLoop is not where it should be.
    case missingProgram
    /// A process ended or did not get ready.
    case childFailed
    /// A fleet runs already, or none runs.
    case notRunning, alreadyRunning
    /// Something did not happen in its time.
    case timedOut
    /// A service or a robot refused, or did only a part.
    case refused
    /// Ctrl-C.
    case interrupted
    /// A folder cannot be used.
    case fileSystem
    /// The words of the command make no sense together.
    case usage
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
    self.cause.map { "\(self.message) (\($0))" } ?? self.message
  }
}
