import GRPCCore

/// The workloads, for any gRPC transport.
struct GRPCMeasurement<Transport: ClientTransport>: Sendable {
  let client: GRPCClient<Transport>

  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    // The first call waits for the connection.
    _ = try await self.call([UInt8](repeating: 0, count: bytes))
    return switch workload {
    case .unary: try await self.unary(bytes: bytes, seconds: seconds)
    case .stream: try await self.stream(bytes: bytes, seconds: seconds)
    case .publish: try await self.serverStream(bytes: bytes, seconds: seconds)
    }
  }

  private func call(_ message: [UInt8]) async throws -> [UInt8] {
    var options = CallOptions.defaults
    options.waitForReady = true
    return try await self.client.unary(
      request: ClientRequest(message: message), descriptor: EchoService.unary, serializer: BytesSerializer(),
      deserializer: BytesDeserializer(), options: options
    ) { try $0.message }
  }

  private func unary(bytes: Int, seconds: Double) async throws -> Sample {
    let message = [UInt8](repeating: 0, count: bytes)
    var latencies: [Double] = []
    let begin = ContinuousClock.now
    var last = begin
    while last < begin + .seconds(seconds) {
      _ = try await self.call(message)
      let now = ContinuousClock.now
      latencies.append(last.duration(to: now).inSeconds * 1e6)
      last = now
    }
    return Sample(
      messages: latencies.count, seconds: begin.duration(to: last).inSeconds, latencies: latencies)
  }

  private func stream(bytes: Int, seconds: Double) async throws -> Sample {
    let begin = ContinuousClock.now
    let request = StreamingClientRequest<[UInt8]> { writer in
      let message = [UInt8](repeating: 0, count: bytes)
      while ContinuousClock.now < begin + .seconds(seconds) { try await writer.write(message) }
    }
    let messages = try await self.client.bidirectionalStreaming(
      request: request, descriptor: EchoService.stream, serializer: BytesSerializer(),
      deserializer: BytesDeserializer(), options: .defaults
    ) { try await Self.count($0) }
    return Sample(messages: messages, seconds: begin.duration(to: .now).inSeconds)
  }

  private func serverStream(bytes: Int, seconds: Double) async throws -> Sample {
    let begin = ContinuousClock.now
    let messages = try await self.client.serverStreaming(
      request: ClientRequest(message: PublishOrder(bytes: bytes, seconds: seconds).message),
      descriptor: EchoService.publish, serializer: BytesSerializer(), deserializer: BytesDeserializer(),
      options: .defaults
    ) { try await Self.count($0) }
    return Sample(messages: messages, seconds: begin.duration(to: .now).inSeconds)
  }

  private static func count(_ response: StreamingClientResponse<[UInt8]>) async throws -> Int {
    var count = 0
    for try await _ in response.messages { count += 1 }
    return count
  }
}

extension Duration {
  var inSeconds: Double { Double(self.components.seconds) + Double(self.components.attoseconds) * 1e-18 }
}
