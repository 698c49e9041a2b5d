internal import Storage

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
    /// The catalog is damaged. It is put aside and made anew from the log.
    case catalog
    /// A place of a file cannot be read although others can: a bad sector.
    case unreadable
    /// Nothing has this name.
    case notFound
    /// The caller asked for what cannot be.
    case invalid
    /// A trial can never be stored, however often it comes, and the fault is its own.
    case refused
    /// More waits than may wait; try again later.
    case busy
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

extension TrialsError {
  /// Runs file operations and says their failure in this module's words.
  static func disk<Result>(_ body: () throws(StorageError) -> Result) throws(TrialsError) -> Result {
    do {
      return try body()
    } catch {
      let code: Code =
        switch error.code {
        case .diskFull: .diskFull
        case .notFound: .notFound
        case .corrupt, .tooLarge: .corrupt
        case .fileSystem, .exists, .inUse, .denied: .fileSystem
        }
      throw TrialsError(code, error.message, cause: error.cause)
    }
  }
}
