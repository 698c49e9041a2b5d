/// Why the bus refused something outside of a call; within calls, errors are GRPCCore's `RPCError`.
public struct BusError: Error, CustomStringConvertible {
  public struct Code: Sendable, Hashable, CustomStringConvertible {
    public let description: String

    /// The text is no endpoint.
    public static let invalidEndpoint = Code(description: "invalidEndpoint")
    /// Another socket is bound there.
    public static let endpointInUse = Code(description: "endpointInUse")
    /// The endpoint cannot be bound or connected on this machine.
    public static let endpointUnavailable = Code(description: "endpointUnavailable")
    /// The endpoint can be reached from outside of this machine, and there are no keys.
    public static let keysRequired = Code(description: "keysRequired")
    /// A key file is missing, unreadable or malformed.
    public static let invalidKey = Code(description: "invalidKey")
    /// A topic or publisher's name is malformed.
    public static let invalidTopic = Code(description: "invalidTopic")
    /// A message is above the size limit.
    public static let tooLarge = Code(description: "tooLarge")
    /// The queue stayed full; the message was dropped.
    public static let dropped = Code(description: "dropped")
    /// The object was closed.
    public static let closed = Code(description: "closed")
    /// The bytes are no message of the expected type.
    public static let malformed = Code(description: "malformed")
    /// ZeroMQ or the system failed in a way that the bus does not expect.
    public static let systemFailure = Code(description: "systemFailure")
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
    "\(self.code): \(self.message)\(self.cause.map { " (\($0))" } ?? "")"
  }
}
