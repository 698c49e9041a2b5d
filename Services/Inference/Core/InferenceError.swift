package import GRPCCore
internal import Artifacts
internal import Policy

/// Why inference gives no action.
package struct InferenceError: Error, Sendable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// The observation is none that the model can take.
    case invalid
    /// No model has this version, or there is none yet.
    case notFound
    /// The caller's time is over.
    case expired
    /// As much as allowed waits already.
    case busy
    /// The model is not trusted, or its time is over.
    case refused
    /// The registry does not answer; try again.
    case unavailable
    /// The model's files are damaged, or the network failed.
    case failed
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

  /// Any error on the way to an action, in this service's words.
  init(_ error: any Error) {
    switch error {
    case let error as InferenceError: self = error
    case let error as PolicyError:
      self.init(error.code == .invalidInput ? .invalid : .failed, error.description)
    case let error as ArtifactError: self.init(Self.code(of: error.code), error.description)
    case let error as RPCError:
      self.init(error.code == .notFound ? .notFound : .unavailable, "The registry says: \(error.message)")
    case is CancellationError: self.init(.unavailable, "Inference is ending.")
    default: self.init(.failed, "\(error)")
    }
  }

  private static func code(of code: ArtifactError.Code) -> Code {
    switch code {
    case .notFound: .notFound
    case .invalidManifest, .invalidSignature, .untrustedKey, .expired, .tooOld, .otherContent, .invalidKey:
      .refused
    case .incomplete, .corrupt: .unavailable
    case .tooLarge, .fileSystem, .diskFull: .failed
    }
  }

  package var description: String {
    "\(self.code.rawValue): \(self.message)" + (self.cause.map { " (\($0))" } ?? "")
  }

  /// The same as gRPC says it.
  package var status: RPCError {
    let code: RPCError.Code =
      switch self.code {
      case .invalid: .invalidArgument
      case .notFound: .notFound
      case .expired: .deadlineExceeded
      case .busy: .resourceExhausted
      case .refused: .failedPrecondition
      case .unavailable: .unavailable
      case .failed: .internalError
      }
    return RPCError(code: code, message: self.message)
  }
}
