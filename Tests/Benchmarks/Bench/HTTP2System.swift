import ArgumentParser
import GRPCCore
import GRPCNIOTransportHTTP2Posix

/// The same gRPC over HTTP/2: grpc-swift-nio-transport.
struct HTTP2System: BusSystem {
  static let title = "gRPC over HTTP/2 (NIO)"
  var name: String { Self.title }

  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    let server = GRPCServer(
      transport: .http2NIOPosix(address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext),
      services: [EchoService()])
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      defer { server.beginGracefulShutdown() }
      guard let port = try await server.listeningAddress?.ipv4?.port else {
        throw ValidationError("The HTTP/2 server did not bind.")
      }
      let transport = try HTTP2ClientTransport.Posix(
        target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: .plaintext)
      return try await withGRPCClient(transport: transport) {
        try await GRPCMeasurement(client: $0).measure(workload, bytes: bytes, seconds: seconds)
      }
    }
  }
}
