public import GRPCCore

/// Packs a message straight into the transport's bytes.
public struct ProtobufSerializer<Message: ProtobufMessage>: MessageSerializer {
  public init() {}

  public func serialize<Bytes: GRPCContiguousBytes>(_ message: Message) throws -> Bytes {
    message.withEncoder { encoder in
      var bytes = Bytes(repeating: 0, count: encoder.size)
      bytes.withUnsafeMutableBytes { encoder.write(to: $0) }
      return bytes
    }
  }
}

/// Unpacks a message from the transport's bytes; what is no message is INVALID_ARGUMENT.
public struct ProtobufDeserializer<Message: ProtobufMessage>: MessageDeserializer {
  public init() {}

  public func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> Message {
    do {
      return try bytes.withUnsafeBytes { try Message(serializedBytes: $0) }
    } catch let error as SchemaError {
      throw RPCError(code: .invalidArgument, message: error.description, cause: error)
    }
  }
}
