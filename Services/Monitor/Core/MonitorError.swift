package import GRPCCore

/// Why the monitor refuses something.
package struct MonitorError: Error, Sendable, Hashable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// The request makes no sense.
    case invalid
    /// No robot or alert has this name.
    case notFound
    /// Not in this state.
    case notNow
    /// Another process owns what this one needs.
    case busy
    /// The database cannot be read or written.
    case storage
    /// The HTTP address cannot be used, or must not be without a token.
    case address
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
      case .busy: .resourceExhausted
      case .storage, .address: .internalError
      }
    return RPCError(code: code, message: self.message)
  }
}

/// Errors of this service as gRPC says them.
enum Status {
  static func of<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
      return try await body()
    } catch let error as MonitorError {
      throw error.status
    }
  }
}
