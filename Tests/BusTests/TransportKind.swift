import Bus
import Foundation
import GRPCCore
import GRPCInProcessTransport
import Testing

/// Transports that must behave the same.
enum TransportKind: String, CaseIterable, CustomTestStringConvertible {
  case inProcess, tcp, ipc, inproc
  var testDescription: String { self.rawValue }
}

/// Runs a server and a client of one kind around a test's body.
func withEcho(
  _ kind: TransportKind, _ body: @escaping @Sendable (any EchoClient, EchoLog) async throws -> Void
) async throws {
  let log = EchoLog()
  if kind == .inProcess {
    let transport = InProcessTransport()
    return try await serve(transport.server, transport.client, log, body)
  }
  let name = UUID().uuidString.prefix(8)
  let path = "/tmp/fleetloop-\(name).ipc"
  defer { try? FileManager.default.removeItem(atPath: path) }
  let text =
    switch kind {
    case .tcp: "tcp://127.0.0.1:*"
    case .ipc: "ipc://\(path)"
    default: "inproc://\(name)"
    }
  let server = try ZeroMQServerTransport(bind: Endpoint(text))
  let client = try await ZeroMQClientTransport(connect: server.boundEndpoint)
  try await serve(server, client, log, body)
}

func serve<Server: ServerTransport, Client: ClientTransport>(
  _ server: Server, _ client: Client, _ log: EchoLog,
  _ body: @escaping @Sendable (any EchoClient, EchoLog) async throws -> Void
) async throws {
  try await withGRPCServer(transport: server, services: [EchoService(log: log)]) { _ in
    try await withGRPCClient(transport: client) { client in try await body(client, log) }
  }
}

/// A client of any transport.
protocol EchoClient: Sendable {
  /// Makes a call whose messages `producer` writes.
  func exchange<Result: Sendable>(
    _ method: MethodDescriptor, metadata: Metadata, options: CallOptions,
    producer: @escaping @Sendable (RPCWriter<[UInt8]>) async throws -> Void,
    _ handler: @escaping @Sendable (StreamingClientResponse<[UInt8]>) async throws -> Result
  ) async throws -> Result
}

extension GRPCClient: EchoClient {
  func exchange<Result: Sendable>(
    _ method: MethodDescriptor, metadata: Metadata, options: CallOptions,
    producer: @escaping @Sendable (RPCWriter<[UInt8]>) async throws -> Void,
    _ handler: @escaping @Sendable (StreamingClientResponse<[UInt8]>) async throws -> Result
  ) async throws -> Result {
    try await self.bidirectionalStreaming(
      request: StreamingClientRequest<[UInt8]>(metadata: metadata, producer: producer), descriptor: method,
      serializer: BytesSerializer(), deserializer: BytesDeserializer(), options: options, onResponse: handler)
  }
}

extension EchoClient {
  /// Sends messages; returns those of the response.
  func messages(
    _ method: EchoService.Method, _ messages: [[UInt8]], options: CallOptions = .defaults
  ) async throws -> [[UInt8]] {
    try await self.exchange(method.descriptor, metadata: [:], options: options) { writer in
      for message in messages { try await writer.write(message) }
    } _: { response in
      var all: [[UInt8]] = []
      for try await message in response.messages { all.append(message) }
      return all
    }
  }

  func expect(_ method: EchoService.Method, _ messages: [[UInt8]], gives answers: [[UInt8]]) async throws {
    let heard = try await self.messages(method, messages)
    #expect(heard == answers)
  }
}
