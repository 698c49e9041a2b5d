import GRPCCore

/// Messages as bytes: what is measured is the transport, not a codec.
struct BytesSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
}

struct BytesDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
    bytes.withUnsafeBytes { Array($0) }
  }
}

/// What the clients of both transports ask.
struct EchoService: RegistrableRPCService {
  static let unary = MethodDescriptor(
    fullyQualifiedService: "bench.Echo", method: "Unary", type: .unary)
  static let stream = MethodDescriptor(
    fullyQualifiedService: "bench.Echo", method: "Stream", type: .bidirectionalStreaming)
  static let publish = MethodDescriptor(
    fullyQualifiedService: "bench.Echo", method: "Publish", type: .serverStreaming)

  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    router.registerHandler(
      forMethod: Self.unary, deserializer: BytesDeserializer(), serializer: BytesSerializer()
    ) { request, _ in
      StreamingServerResponse(
        single: ServerResponse(message: try await ServerRequest(stream: request).message))
    }
    router.registerHandler(
      forMethod: Self.stream, deserializer: BytesDeserializer(), serializer: BytesSerializer()
    ) { request, _ in
      StreamingServerResponse { writer in
        for try await message in request.messages { try await writer.write(message) }
        return [:]
      }
    }
    router.registerHandler(
      forMethod: Self.publish, deserializer: BytesDeserializer(), serializer: BytesSerializer()
    ) { request, _ in
      let order = try PublishOrder(await ServerRequest(stream: request).message)
      return StreamingServerResponse { writer in
        let message = [UInt8](repeating: 0, count: order.bytes)
        let end = ContinuousClock.now + .seconds(order.seconds)
        while ContinuousClock.now < end { try await writer.write(message) }
        return [:]
      }
    }
  }
}

/// "BYTES SECONDS", as a message.
struct PublishOrder {
  var bytes: Int
  var seconds: Double

  init(bytes: Int, seconds: Double) {
    self.bytes = bytes
    self.seconds = seconds
  }

  init(_ message: [UInt8]) throws {
    let words = String(decoding: message, as: UTF8.self).split(separator: " ")
    guard words.count == 2, let bytes = Int(words[0]), let seconds = Double(words[1]) else {
      throw RPCError(code: .invalidArgument, message: "The order is \"BYTES SECONDS\".")
    }
    self.init(bytes: bytes, seconds: seconds)
  }

  var message: [UInt8] { Array("\(self.bytes) \(self.seconds)".utf8) }
}
