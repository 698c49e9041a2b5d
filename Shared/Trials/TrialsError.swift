/// What went wrong with trials on disk or in memory.
public struct TrialsError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    /// A video cannot be made or read.
    case video
    /// A log or catalog file cannot be read or written.
    case fileSystem
    /// The disk is full: nothing was stored, nothing was lost; free space and try again.
    case diskFull
    /// A file is not what its name says.
    case corrupt
    /// Nothing has this name.
    case notFound
    /// The caller asked for what cannot be.
    case invalid
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
