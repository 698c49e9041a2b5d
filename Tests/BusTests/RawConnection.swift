import Bus
import Foundation
import Schemas
import Synchronization

@testable import Bus

/// A connection that speaks ZMTP 3.0 (NULL) as its test writes it, and never reads: ZeroMQ on this side would hold back
/// what an attacker does not.
final class RawConnection: Sendable {
  private let descriptor: CInt
  private let isReady = Atomic<Bool>(false)
  /// Of a message that the other side has not taken whole.
  private let rest = Mutex<ArraySlice<UInt8>>([])

  /// - Parameters:
  ///   - endpoint: tcp on 127.0.0.1, or ipc.
  ///   - type: of the socket that this is said to be, e.g. "PUB".
  init(to endpoint: Endpoint, as type: String) throws {
    self.descriptor = try Self.connect(endpoint)
    var greeting: [UInt8] = [0xFF] + [UInt8](repeating: 0, count: 8) + [0x7F, 3, 0] + Array("NULL".utf8)
    greeting += [UInt8](repeating: 0, count: 64 - greeting.count)
    let property = [11] + Array("Socket-Type".utf8) + [0, 0, 0, UInt8(type.utf8.count)] + Array(type.utf8)
    self.write(greeting + Self.command("READY", property))
  }

  /// One message.
  /// - Parameter isOpen: it goes on after these frames.
  static func message(_ frames: [[UInt8]], isOpen: Bool = false) -> [UInt8] {
    frames.enumerated().reduce(into: []) { bytes, frame in
      let more: UInt8 = isOpen || frame.offset < frames.count - 1 ? 1 : 0
      let count = frame.element.count
      bytes += count < 256 ? [more, UInt8(count)] : [more | 2]
      if count >= 256 { withUnsafeBytes(of: UInt64(count).bigEndian) { bytes += $0 } }
      bytes += frame.element
    }
  }

  /// Asks for an answer at once. No time to live.
  static let ping = command("PING", [0, 0])

  private static func command(_ name: String, _ body: [UInt8]) -> [UInt8] {
    let content = [UInt8(name.utf8.count)] + Array(name.utf8) + body
    return [4, UInt8(content.count)] + content
  }

  /// Writes what the other side takes now.
  /// - Returns: how many bytes that was.
  @discardableResult
  func write(_ bytes: [UInt8]) -> Int {
    max(0, send(self.descriptor, bytes, bytes.count, Self.flags))
  }

  /// Writes messages until the other side takes no more, and later on from there.
  /// - Returns: bytes that it took, and whether the connection is open still.
  func writeAll(_ messages: [[UInt8]]) async -> (written: Int, isOpen: Bool) {
    if !self.isReady.exchange(true, ordering: .relaxed) {
      guard await self.isHeard() else { return (0, false) }
    }
    var written = 0
    for message in [[]] + messages {
      var rest = message.isEmpty ? self.rest.withLock { $0 } : message[...]
      defer { self.rest.withLock { $0 = rest } }
      while !rest.isEmpty {
        var (count, error) = (0, EAGAIN)
        _ = await eventually(within: .seconds(2)) {
          (count, error) = Self.put(rest, to: self.descriptor)
          return error != EAGAIN
        }
        guard error == 0 else { return (written, error == EAGAIN) }
        written += count
        rest = rest.dropFirst(count)
      }
    }
    return (written, true)
  }

  /// Whether the other side has said that it is ready: what comes before that is refused where it comes together with what
  /// this side said.
  private func isHeard() async -> Bool {
    var heard: [UInt8] = []
    return await eventually {
      var bytes = [UInt8](repeating: 0, count: 4096)
      let count = recv(self.descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
      heard += bytes.prefix(max(0, count))
      return heard.dropFirst(64).starts(with: [4]) && heard.count > 80
    }
  }

  /// - Returns: bytes that were taken, and the error number.
  private static func put(_ bytes: ArraySlice<UInt8>, to descriptor: CInt) -> (Int, CInt) {
    bytes.withUnsafeBytes { bytes in
      let count = send(descriptor, bytes.baseAddress, bytes.count, Self.flags)
      let error = errno
      return count > 0 ? (count, 0) : (0, error)
    }
  }

  private static let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)

  /// Hangs up at once: what was not read yet is read still, then the system says that the connection is broken.
  func hangUp() { Foundation.close(self.descriptor) }

  private static func connect(_ endpoint: Endpoint) throws -> CInt {
    let isLocal = endpoint.transport == .ipc
    let descriptor = socket(isLocal ? AF_UNIX : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var result: CInt
    if isLocal {
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: endpoint.address.utf8) }
      result = withUnsafeBytes(of: &address) {
        Foundation.connect(
          descriptor, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = UInt16(endpoint.address.split(separator: ":").last ?? "").map(\.bigEndian) ?? 0
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      result = withUnsafeBytes(of: &address) {
        Foundation.connect(
          descriptor, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
    }
    guard result == 0 else {
      throw BusError(.endpointUnavailable, "\(endpoint): \(String(cString: strerror(errno)))")
    }
    return descriptor
  }
}
