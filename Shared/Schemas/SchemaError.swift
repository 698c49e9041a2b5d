/// Why bytes are no message, or a message cannot be bytes.
public struct SchemaError: Error, Sendable, Hashable, CustomStringConvertible {
  public enum Code: String, Sendable, Hashable {
    /// Truncated, not protobuf, or larger in memory than its size allows.
    case malformed
    /// A string field is not UTF-8.
    case invalidUTF8
  }

  public var code: Code
  /// Names the message, and the field where one is to blame.
  public var message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { "\(self.code.rawValue): \(self.message)" }
}
