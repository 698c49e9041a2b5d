import Artifacts
package import GRPCCore

/// Why rollout refuses something.
package struct RolloutError: Error, Sendable, Hashable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// The request makes no sense.
    case invalid
    /// No model, robot, release or experiment has this name.
    case notFound
    /// Not in this state: something else must happen first.
    case notNow
    /// A version exists with other content.
    case conflict
    /// As much as allowed is under way.
    case busy
    /// The database cannot be read or written.
    case storage
  }

  package var code: Code
  /// What happened, where, and what to do.
  package var message: String

  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  package var description: String { "\(self.code.rawValue): \(self.message)" }

  package var status: RPCError {
    let code: RPCError.Code =
      switch self.code {
      case .invalid: .invalidArgument
      case .notFound: .notFound
      case .notNow: .failedPrecondition
      case .conflict: .alreadyExists
      case .busy: .resourceExhausted
      case .storage: .internalError
      }
    return RPCError(code: code, message: self.message)
  }
}

/// Errors of this service as gRPC says them.
enum Status {
  static func of<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
      return try await body()
    } catch let error as RolloutError {
      throw error.status
    } catch let error as ArtifactError {
      throw RPCError(code: Self.code(of: error.code), message: error.description)
    }
  }

  private static func code(of code: ArtifactError.Code) -> RPCError.Code {
    switch code {
    case .invalidManifest, .incomplete, .tooLarge: .invalidArgument
    case .invalidSignature, .untrustedKey: .permissionDenied
    case .expired, .tooOld, .otherContent, .invalidKey: .failedPrecondition
    case .corrupt: .dataLoss
    case .notFound: .notFound
    case .diskFull: .resourceExhausted
    case .fileSystem: .internalError
    }
  }
}
