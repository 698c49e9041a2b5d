internal import Artifacts
package import GRPCCore
internal import Policy
internal import Trials

/// What training could not do.
package struct TrainingError: Error, Sendable, CustomStringConvertible, RPCErrorConvertible {
  package enum Code: String, Sendable {
    /// A request that contradicts itself or the parent.
    case invalidRequest
    /// A model or job of this name exists.
    case alreadyExists
    /// Nothing has this name.
    case notFound
    /// Too many jobs wait.
    case busy
    /// There is nothing to learn from.
    case noData
    /// There is more to learn from than the settings allow.
    case tooLarge
    /// Ingest or the registry does not answer.
    case unavailable
    /// The disk.
    case storage
    /// The caller cancelled the job.
    case cancelled
    /// The process ends; the job goes on at its next start.
    case interrupted
  }

  package var code: Code
  /// What happened, where, and what to do.
  package var message: String
  package var cause: (any Error)?

  package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  package var description: String { self.message + (self.cause.map { " (\($0))" } ?? "") }

  package var rpcErrorCode: RPCError.Code {
    switch self.code {
    case .invalidRequest, .noData, .tooLarge: .invalidArgument
    case .alreadyExists: .alreadyExists
    case .notFound: .notFound
    case .busy: .resourceExhausted
    case .unavailable, .interrupted: .unavailable
    case .storage: .internalError
    case .cancelled: .cancelled
    }
  }

  package var rpcErrorMessage: String { self.description }

  /// One line about any error that can end a job.
  static func text(_ error: any Error) -> String {
    switch error {
    case let error as TrainingError: error.description
    case let error as PolicyError: error.description
    case let error as ArtifactError: error.description
    case let error as RPCError: "\(error.code): \(error.message)"
    default: "\(error)"
    }
  }
}
