import Foundation

/// A command that watches what goes on without it: Ctrl-C ends the watching alone.
enum Following {
  /// Runs `body` until it is done or the user has seen enough.
  /// - Parameter goesOn: what goes on, and the command that ends it.
  /// - Throws: ``FleetError`` `.interrupted` after SIGINT or SIGTERM; what `body` throws.
  static func run<Result: Sendable>(
    goesOn: @Sendable () -> String, _ body: @Sendable @escaping () async throws -> Result
  ) async throws -> Result {
    let work = Task(operation: body)
    let signals = SignalWatch([SIGINT, SIGTERM]) { work.cancel() }
    defer { signals.end() }
    do {
      return try await work.value
    } catch {
      guard work.isCancelled else { throw error }
      throw FleetError(.interrupted, "Interrupted. \(goesOn())")
    }
  }

  /// What is known of work whose start nobody answered yet.
  static func unanswered(_ what: String, _ command: String, _ options: FleetOptions) -> String {
    CommandHint.text(
      "Whether \(what) was started is not known: the call was not answered.", [.init("See", command)],
      again: options.again)
  }
}

/// Who sits before this terminal.
enum Operator {
  /// The login name.
  static var name: String {
    guard let entry = getpwuid(getuid()), let name = entry.pointee.pw_name else { return "operator" }
    return String(cString: name)
  }
}
