/// Why state cannot be kept on a disk.
public struct StorageError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    /// Another process owns the folder.
    case inUse
    /// A file or folder cannot be read or written.
    case fileSystem
    /// This process may not.
    case denied
    /// The disk is full: nothing was stored, nothing was lost; free space and try again.
    case diskFull
    /// Nothing has this name.
    case notFound
    /// Something has this name already.
    case exists
    /// A file is larger than what is read.
    case tooLarge
    /// What is in a file or database is none of ours.
    case corrupt
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
