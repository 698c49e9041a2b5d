import Dispatch

/// Runs what blocks for long on a thread that is not one of the Swift pool's.
func offPool<Result: Sendable>(
  _ label: String, _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue(label: label, qos: .utility).async {
      continuation.resume(with: Swift.Result { try body() })
    }
  }
}
