internal import CTorch

/// What a policy could not do.
public struct PolicyError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    /// Sizes or options that make no network or no training.
    case invalidConfiguration
    /// An observation or a batch that the network cannot take.
    case invalidInput
    /// A weights file or checkpoint is damaged, or belongs to another network.
    case invalidWeights
    /// Training went wrong: the loss is no number.
    case diverged
    /// LibTorch failed.
    case torch
    /// The caller cancelled.
    case cancelled
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

/// Turns a status of CTorch into an error. Must run on the thread that made the call: the text is kept per thread.
func check(
  _ status: Int32, _ what: @autoclosure () -> String, code: PolicyError.Code = .torch
) throws(PolicyError) {
  guard status == 0 else {
    throw PolicyError(code, "\(what()): \(String(cString: ct_last_error())).")
  }
}

/// LibTorch's own threads.
public enum Torch {
  /// Threads within one operation. Serve with 1 and run requests in parallel; two training threads want two idle cores.
  ///
  /// Holds for the calling thread and for threads that have not used LibTorch yet.
  public static func useThreads(_ count: Int) { ct_set_threads(Int32(clamping: max(1, count))) }

  /// e.g. "2.13.0".
  public static var version: String { String(cString: ct_torch_version()) }
}
