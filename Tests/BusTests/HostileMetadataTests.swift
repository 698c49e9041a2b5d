import GRPCCore
import Schemas
import Testing

@testable import Bus

@Suite("Hostile metadata", .timeLimit(.minutes(5)))
struct HostileMetadataTests {
  @Test("entries that break gRPC's rules are no reason to crash")
  func entries() {
    let metadata = FrameCodec.metadata([
      MetadataEntry(key: "bytes", value: .binary([1, 2])), MetadataEntry(key: "", value: .binary([])),
      MetadataEntry(key: "text-bin", value: .text("not base 64!")), MetadataEntry(key: "nothing"),
    ])
    #expect(Array(metadata[binaryValues: "bytes-bin"]) == [[1, 2]])
    #expect(Array(metadata[stringValues: "nothing"]) == [""])
    #expect(metadata.count == 4)
  }

  @Test("a server serves on after bytes under a text's key")
  func served() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    var header = CallFrame(kind: .open, callID: 1, method: "test.Echo/unary")
    header.hasMessage = true
    header.halfClose = true
    header.metadata = [MetadataEntry(key: "bytes", value: .binary([0xFF]))]
    #expect(await peer.send(header, message: [5]))
    var messages: [[UInt8]] = []
    var status: UInt32?
    while status == nil, let answer = try await peer.header() {
      answer.message.map { messages.append($0) }
      if answer.header.kind == .status { status = answer.header.statusCode }
    }
    #expect(status == 0 && messages == [[5]])
    peer.close()
    await server.stop()
  }

  @Test("a call with thousands of entries, each a header's two bytes, is refused, and others are served")
  func crowd() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    var header = CallFrame(kind: .open, callID: 1, method: "test.Echo/hang")
    header.hasMessage = true
    header.halfClose = true
    header.metadata = Array(repeating: MetadataEntry(), count: 5_000)
    #expect(await peer.send(header, message: [5]))
    var status: UInt32?
    while status == nil, let answer = try await peer.header() {
      if answer.header.kind == .status { status = answer.header.statusCode }
    }
    #expect(status == UInt32(RPCError.Code.resourceExhausted.rawValue))
    #expect(server.log.count("hanging") == 0)
    try await withClient(server.endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    peer.close()
    await server.stop()
  }
}
