package import GRPCCore

/// What the agent could not do, said so that a control program or an operator can act on it.
package struct RobotError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure this is.
  package enum Code: String, Sendable {
    /// The message makes no sense: a wrong image size, a step out of order, a number that is not finite.
    case invalidRequest
    /// The robot is stopped, unhealthy, or busy with another trial.
    case notReady
    /// The spool holds as much as it may; it empties once ingest answers.
    case spoolFull
    /// A trial would outgrow its bound: what it has is filed.
    case tooLarge
    /// The disk refused a read or a write; a later one may succeed.
    case diskFailed
    /// What is in a file is none of ours, and will not be.
    case damaged
    /// Something took longer than it may without getting on.
    case noProgress
    /// A connection over a link ended.
    case linkFailed
    /// Waiting work has reached its bound.
    case tooMuchWork
    /// A setting is wrong.
    case invalidConfiguration
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

  package var description: String {
    guard let cause else { return "\(self.code.rawValue): \(self.message)" }
    return "\(self.code.rawValue): \(self.message) (\(cause))"
  }
}

extension RobotError: RPCErrorConvertible {
  package var rpcErrorCode: RPCError.Code {
    switch self.code {
    case .invalidRequest: .invalidArgument
    case .notReady, .invalidConfiguration: .failedPrecondition
    case .spoolFull, .tooLarge, .diskFailed, .tooMuchWork: .resourceExhausted
    case .damaged: .dataLoss
    case .noProgress: .deadlineExceeded
    case .linkFailed: .unavailable
    }
  }

  package var rpcErrorMessage: String { self.message }
}
