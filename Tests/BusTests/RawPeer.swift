import CZeroMQ
import Foundation
import Schemas

@testable import Bus

/// A bare ZeroMQ socket, for what no well-behaved peer does. One task uses it.
final class RawPeer: Sendable {
  enum Kind: Int32 { case request = 3, dealer = 5, publish = 1, subscribe = 2 }

  private let socket: Socket

  /// - Parameter isDeaf: it takes as little from the network as it can, until it is read.
  init(
    _ kind: Kind, to endpoint: Endpoint, security: ClientSecurity = .none, isDeaf: Bool = false
  ) throws {
    self.socket = try Socket(kind.rawValue, isolated: endpoint.transport != .inproc)
    if isDeaf {
      try self.socket.set(ZMQ_RCVHWM, Int32(1))
      try self.socket.set(ZMQ_RCVBUF, Int32(8192))
    }
    try self.socket.secure(security, to: endpoint)
    try self.socket.connect(endpoint)
  }

  func subscribe(_ topic: [UInt8]) throws { try self.socket.set(ZMQ_SUBSCRIBE, topic) }

  /// Without the cooperative pool: waits on the calling thread.
  func exchange(_ header: CallFrame, message: [UInt8], within limit: Duration) -> CallFrame? {
    let end = ContinuousClock.now + limit
    let frames = [ZeroMQBytes(header.serializedBytes()), ZeroMQBytes(message)]
    while self.socket.send(frames) != 0, .now < end { Thread.sleep(forTimeInterval: 0.002) }
    while .now < end {
      if let first = self.socket.receive(limit: 8)?.first?.array,
        let answer = try? CallFrame(serializedBytes: first), answer.kind == .status
      {
        return answer
      }
      Thread.sleep(forTimeInterval: 0.002)
    }
    return nil
  }

  func send(_ frames: [[UInt8]]) async -> Bool {
    await eventually { self.socket.send(frames.map { ZeroMQBytes($0) }) == 0 }
  }

  func send(_ header: CallFrame, message: [UInt8]? = nil) async -> Bool {
    await self.send([header.serializedBytes()] + (message.map { [$0] } ?? []))
  }

  /// The next message's frames; nil where none comes in time.
  func receive(within limit: Duration = .seconds(60)) async -> [[UInt8]]? {
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
      if let frames = self.socket.receive(limit: 8) { return frames.map(\.array) }
      try? await Task.sleep(for: .milliseconds(2))
    }
    return nil
  }

  /// The next header that is no ping.
  func header(within limit: Duration = .seconds(60)) async throws -> (header: CallFrame, message: [UInt8]?)? {
    while let frames = await self.receive(within: limit) {
      let header = try CallFrame(serializedBytes: frames[0])
      if header.kind != .ping { return (header, header.hasMessage ? frames.last : nil) }
    }
    return nil
  }

  /// The next status, past everything else.
  func status() async throws -> CallFrame? {
    while let answer = try await self.header() { if answer.header.kind == .status { return answer.header } }
    return nil
  }

  func close() { self.socket.close() }
}
