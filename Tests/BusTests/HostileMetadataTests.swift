import GRPCCore
import Schemas
import Testing

@testable import Bus

@Suite("Hostile metadata", .timeLimit(.minutes(1)))
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
}
