import Dispatch
import GRPCCore

/// Bytes as they are, so that the suites see the transport and no codec.
struct BytesSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
}

struct BytesDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
    bytes.withUnsafeBytes { Array($0) }
  }
}

/// One method of each kind and some that misbehave.
struct EchoService: RegistrableRPCService {
  static let service = "test.Echo"

  enum Method: String {
    /// The message back.
    case unary
    /// All messages joined.
    case join
    /// Each byte as a message.
    case split
    /// Each message back.
    case echo
    /// Fails with the status code that the message's first byte says; its message names the code.
    case fail
    /// Answers when it is asked to end.
    case hang
    /// Answers in a minute; notes when its task was cancelled.
    case sleep
    /// Holds its thread until the log's gate opens.
    case block
    /// Keeps its thread busy until the log says that it is enough.
    case spin
    /// As many messages of 64 KiB as the request's first byte says, times 16.
    case flood
    /// The peer's identity as text.
    case who
    /// What handlers tell peers apart by.
    case peer

    var descriptor: MethodDescriptor {
      let type: MethodDescriptor.RPCType =
        switch self {
        case .unary, .fail, .hang, .sleep, .block, .spin, .who, .peer: .unary
        case .join: .clientStreaming
        case .split, .flood: .serverStreaming
        case .echo: .bidirectionalStreaming
        }
      return MethodDescriptor(fullyQualifiedService: EchoService.service, method: self.rawValue, type: type)
    }
  }

  let log: EchoLog

  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    let log = self.log
    for method in [Method.unary, .echo] {
      Self.register(method, with: &router) { request, writer, _ in
        for try await message in request.messages { try await writer.write(message) }
        var trailing: Metadata = ["told": "\(Array(request.metadata[stringValues: "ask"]).first ?? "")"]
        trailing.addBinary(Array(request.metadata[binaryValues: "ask-bin"]).first ?? [], forKey: "told-bin")
        return trailing
      }
    }
    Self.register(.join, with: &router) { request, writer, _ in
      var all: [UInt8] = []
      for try await message in request.messages { all += message }
      try await writer.write(all)
      return [:]
    }
    Self.register(.split, with: &router) { request, writer, _ in
      for try await message in request.messages { for byte in message { try await writer.write([byte]) } }
      return [:]
    }
    Self.register(.hang, with: &router) { _, _, _ in
      let (asked, continuation) = AsyncStream.makeStream(of: Void.self)
      log.note("hanging")
      await withRPCCancellationHandler {
        for await _ in asked {}
      } onCancelRPC: {
        log.note("asked")
        continuation.finish()
      }
      return [:]
    }
    Self.register(.sleep, with: &router) { _, _, _ in
      log.note("sleeping")
      try await withTaskCancellationHandler {
        try await Task.sleep(for: .seconds(60))
      } onCancel: {
        log.note("cancelled")
      }
      return [:]
    }
    Self.register(.block, with: &router) { _, _, _ in
      log.note("blocking")
      Self.wait(log.gate)
      return [:]
    }
    Self.register(.spin, with: &router) { _, _, _ in
      log.note("spinning")
      log.spin()
      return [:]
    }
    Self.register(.flood, with: &router) { request, writer, _ in
      for try await message in request.messages {
        for _ in 0..<Int(message.first ?? 0) * 16 {
          try await writer.write([UInt8](repeating: 7, count: 64 << 10))
          log.note("flooded")
        }
      }
      return [:]
    }
    Self.register(.who, with: &router) { _, writer, context in
      try await writer.write(Array(identityText(context).utf8))
      return [:]
    }
    Self.register(.peer, with: &router) { _, writer, context in
      try await writer.write(Array(context.remotePeer.utf8))
      return [:]
    }
    Self.register(.fail, with: &router) { _, _, _ in [:] }
  }

  private static func wait(_ gate: DispatchSemaphore) { gate.wait() }

  private static func register<Transport: ServerTransport>(
    _ method: Method, with router: inout RPCRouter<Transport>,
    _ body:
      @escaping @Sendable (StreamingServerRequest<[UInt8]>, RPCWriter<[UInt8]>, ServerContext) async throws ->
      Metadata
  ) {
    router.registerHandler(
      forMethod: method.descriptor, deserializer: BytesDeserializer(), serializer: BytesSerializer()
    ) { request, context in
      if method == .fail {
        var iterator = request.messages.makeAsyncIterator()
        let first = try await iterator.next()?.first ?? 0
        let code = Status.Code(rawValue: Int(first)).flatMap { RPCError.Code($0) } ?? .unknown
        throw RPCError(code: code, message: "code \(first)", metadata: ["failed": "yes"])
      }
      return StreamingServerResponse(metadata: ["seen": "\(method.rawValue)"]) { writer in
        try await body(request, writer, context)
      }
    }
  }
}
