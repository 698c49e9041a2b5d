/// A message of `proto/` as a value. Encoding and decoding are protobuf-c's.
public protocol ProtobufMessage: Sendable, Hashable {
  /// Full name, e.g. "fleetloop.v1.TrialEvent".
  static var protoMessageName: String { get }

  /// Every field at its default.
  init()

  /// Decodes. The bytes are not kept.
  /// - Throws: ``SchemaError``.
  init(serializedBytes bytes: UnsafeRawBufferPointer) throws(SchemaError)

  /// Hands an encoder to `body`; it is valid only there.
  func withEncoder<Result>(_ body: (MessageEncoder) throws -> Result) rethrows -> Result

  /// Fields that this program does not know; kept when encoded again.
  var unknownFields: UnknownFields { get set }
}

extension ProtobufMessage {
  /// - Throws: ``SchemaError``.
  public init(serializedBytes bytes: [UInt8]) throws(SchemaError) {
    let result: Result<Self, SchemaError> = bytes.withUnsafeBytes { buffer in
      do throws(SchemaError) { return .success(try Self(serializedBytes: buffer)) } catch {
        return .failure(error)
      }
    }
    self = try result.get()
  }

  public func serializedBytes() -> [UInt8] {
    self.withEncoder { encoder in
      [UInt8](unsafeUninitializedCapacity: encoder.size) { buffer, count in
        encoder.write(to: UnsafeMutableRawBufferPointer(buffer))
        count = encoder.size
      }
    }
  }

  public var serializedSize: Int { self.withEncoder(\.size) }
}

/// An enum of `proto/`. Numbers that this program does not know are kept.
public protocol ProtobufEnum: Sendable, Hashable {
  init(rawValue: Int32)
  var rawValue: Int32 { get }
  /// Every known case.
  static var allCases: [Self] { get }
}

/// Fields of a message that came from a newer program.
public struct UnknownFields: Sendable, Hashable {
  struct Field: Sendable, Hashable {
    var number: UInt32
    var wireType: UInt32
    var data: [UInt8]
  }

  var fields: [Field] = []

  public init() {}

  public var isEmpty: Bool { self.fields.isEmpty }
  /// Field numbers in the order they came.
  public var numbers: [UInt32] { self.fields.map(\.number) }
}
