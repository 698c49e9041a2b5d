import Foundation
import GRPCCore
import Schemas
import Testing

@testable import Bus

@Suite("Wire format", .timeLimit(.minutes(5)))
struct WireTests {
  private static func opening(_ method: String, id: UInt64 = 1) -> CallFrame {
    var header = CallFrame(kind: .open, callID: id, method: method)
    header.hasMessage = true
    header.halfClose = true
    return header
  }

  @Test("a REQ socket makes a unary call, and again")
  func request() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.request, to: server.endpoint)
    for round in UInt8(1)...3 {
      #expect(await peer.send(Self.opening("test.Echo/unary"), message: [round]))
      let answer = try #require(await peer.header())
      #expect(answer.header.kind == .status && answer.header.statusCode == 0)
      #expect(answer.header.hasMetadata && answer.message == [round])
    }
    await server.stop()
  }

  @Test(
    "a REQ socket gets one answer to everything",
    arguments: [
      ("test.Echo/split", Status.Code.unimplemented), ("test.Echo/none", .unimplemented),
      ("nonsense", .unimplemented),
      ("test.Echo/fail", .aborted),
    ])
  func requestRefused(method: String, code: Status.Code) async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.request, to: server.endpoint)
    #expect(await peer.send(Self.opening(method), message: [10, 2, 3]))
    let answer = try #require(await peer.header())
    #expect(answer.header.kind == .status && answer.header.statusCode == UInt32(code.rawValue))
    #expect(await peer.send([[1, 2, 3]]))
    let malformed = try #require(await peer.header())
    #expect(malformed.header.statusCode == UInt32(Status.Code.invalidArgument.rawValue))
    await server.stop()
  }

  @Test("a REQ socket is answered also without half_close, without a message, and out of turn")
  func requestIncomplete() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.request, to: server.endpoint)
    for method in ["unary", "join", "echo"] {
      var header = Self.opening("test.Echo/\(method)")
      header.halfClose = false
      #expect(await peer.send(header, message: [4]))
      let answer = try #require(await peer.header())
      #expect(answer.header.kind == .status && answer.header.statusCode == 0 && answer.message == [4])
    }
    for kind in [CallFrame.Kind.open, .data, .credit, .ping, .status, .cancel] {
      #expect(await peer.send(CallFrame(kind: kind, callID: 1, method: "test.Echo/unary")))
      let status = try #require(await peer.status())
      #expect(status.statusCode == UInt32(Status.Code.invalidArgument.rawValue), "\(kind)")
    }
    await server.stop()
  }

  @Test(
    "a client that gives no credit gets a stream of any length if it gives back in quarters of what it gave")
  func noOpeningCredit() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    #expect(await peer.send(Self.opening("test.Echo/flood"), message: [3]))
    var (messages, consumed) = (0, 0)
    while let answer = try await peer.header() {
      if answer.header.hasMessage { messages += 1 }
      // The last may come with the status.
      if answer.header.kind == .status { break }
      guard answer.header.hasMessage else { continue }
      consumed += 65_536 + 64
      if consumed >= 65_536 {
        var credit = CallFrame(kind: .credit, callID: 1)
        credit.credit = UInt64(consumed)
        consumed = 0
        #expect(await peer.send(credit))
      }
    }
    #expect(messages == 48)
    await server.stop()
  }

  @Test("a server survives hostile frames and goes on serving")
  func fuzz() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    var random = SystemRandomNumberGenerator()
    let before = BusMetrics.snapshot()["bus_malformed_frames_total"] ?? 0
    let kinds: [CallFrame.Kind] = [.open, .data, .status, .cancel, .credit, .ping, .unspecified]
    for number in 0..<3000 {
      var header = CallFrame(
        kind: kinds.randomElement() ?? .open, callID: UInt64.random(in: 0..<40),
        method: ["test.Echo/echo", "test.Echo/unary", "x", "/", "a/"].randomElement() ?? "",
        timeoutNanos: [0, 0, 1, 1_000_000, .max].randomElement() ?? 0)
      header.hasMessage = Bool.random()
      header.halfClose = Bool.random()
      header.credit = [0, 1, .max].randomElement() ?? 0
      header.statusCode = UInt32.random(in: 0...40)
      header.metadata = [MetadataEntry(key: "a", value: .text("b")), MetadataEntry(key: "")]
      var bytes = header.serializedBytes()
      if number % 3 == 0, !bytes.isEmpty {
        for _ in 0..<Int.random(in: 1...4) {
          bytes[Int.random(in: 0..<bytes.count)] = UInt8.random(in: 0...255, using: &random)
        }
      }
      if number % 7 == 0 { bytes.removeLast(Int.random(in: 0...bytes.count)) }
      let extra = (0..<Int.random(in: 0...4)).map { _ in
        [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: Int.random(in: 0...300))
      }
      #expect(await peer.send([bytes] + extra))
    }
    peer.close()
    try await withClient(server.endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    #expect((BusMetrics.snapshot()["bus_malformed_frames_total"] ?? 0) > before)
    await server.stop()
  }

  @Test("a client that ignores its credit has its call ended")
  func creditIgnored() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    #expect(await peer.send(CallFrame(kind: .open, callID: 1, method: "test.Echo/sleep")))
    #expect(await server.log.waits(for: "sleeping"))
    var header = CallFrame(kind: .data, callID: 1)
    header.hasMessage = true
    let megabyte = [UInt8](repeating: 0, count: 1 << 20)
    for _ in 0..<8 { #expect(await peer.send(header, message: megabyte)) }
    let status = try await peer.status()
    #expect(status?.statusCode == UInt32(Status.Code.resourceExhausted.rawValue))
    #expect(await server.log.waits(for: "cancelled"))
    await server.stop()
  }

  @Test("a server ends a call at its deadline although the client forgot it")
  func serverDeadline() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    var header = Self.opening("test.Echo/sleep")
    header.timeoutNanos = 1_000_000_000
    #expect(await peer.send(header, message: [1]))
    // On a busy machine the deadline may come before the handler.
    let hasStarted = await server.log.waits(for: "sleeping", limit: .milliseconds(900))
    let status = try await peer.status()
    #expect(status?.statusCode == UInt32(Status.Code.deadlineExceeded.rawValue))
    if hasStarted { #expect(await server.log.waits(for: "cancelled")) }
    await server.stop()
  }

  @Test("flow control: credit, overhead and windows")
  func flow() {
    var flow = FlowControl(window: 4 << 20)
    #expect(flow.credit == 262_144)
    flow.sent(bytes: 300_000)
    #expect(!flow.maySend)
    // What a peer gives counts up to a window.
    flow.granted(UInt64.max)
    flow.granted(UInt64.max)
    #expect(flow.credit == 4 << 20)
    // A quarter of what was given goes back, which is little until the window is open.
    #expect(flow.consumed(bytes: 100) == nil)
    #expect(flow.consumed(bytes: 65_536) == 100 + 65_536 + 128)
    #expect(flow.open() == (4 << 20) - 262_144)
    #expect(flow.open() == 0)
    #expect(flow.consumed(bytes: 65_536) == nil)
    #expect(flow.consumed(bytes: 1 << 20) == (1 << 20) + 65_536 + 128)
    // A window below the initial credit would never be granted back.
    var small = FlowControl(window: 1)
    #expect(small.open() == 0)
    // A peer with a larger window gives back in larger steps: no cut may swallow one whole.
    small.granted(UInt64.max)
    #expect(small.credit >= FlowControl.largestStep)
  }

  @Test("parts travel in as few frames as their order allows")
  func coalescing() {
    let message = ZeroMQBytes([1])
    let unary = FrameCodec.frames(
      of: [.metadata([:]), .message(message), .status(Status(code: .ok, message: ""), [:])], id: 3)
    #expect(unary.count == 1 && unary[0].header.kind == .status && unary[0].header.hasMetadata)
    let stream = FrameCodec.frames(of: [.message(message), .message(message), .halfClose], id: 3)
    #expect(stream.count == 1 && stream[0].messages.count == 2 && stream[0].header.halfClose)
    let large = ZeroMQBytes(repeating: 0, count: FrameCodec.fullFrame)
    let mixed = FrameCodec.frames(
      of: [.message(message), .message(large), .message(message), .halfClose], id: 3)
    #expect(
      mixed.map(\.messages.count) == [1, 1, 1] && mixed.map(\.header.halfClose) == [false, false, true])
    let many = FrameCodec.frames(of: [CallPart](repeating: .message(message), count: 130), id: 3)
    #expect(many.map(\.messages.count) == [64, 64, 2])
  }

  @Test("bytes are values")
  func bytes() {
    let first = ZeroMQBytes([1, 2, 3])
    var second = first
    second.withUnsafeMutableBytes { $0[0] = 9 }
    #expect(first.array == [1, 2, 3] && second.array == [9, 2, 3])
    #expect(ZeroMQBytes(repeating: 7, count: 100).array == [UInt8](repeating: 7, count: 100))
    #expect(ZeroMQBytes([]).count == 0 && first == ZeroMQBytes([1, 2, 3]) && first != second)
  }
}
