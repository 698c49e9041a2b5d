import Foundation

/// One TCP connection to 127.0.0.1 that sends what no HTTP library would.
final class RawConnection: Sendable {
  struct Failure: Error {
    var errno: Int32
  }

  private let descriptor: Int32

  init(port: Int) throws {
    self.descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard self.descriptor >= 0 else { throw Failure(errno: errno) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(self.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else { throw Failure(errno: errno) }
    // Whoever is not answered within this fails its test.
    var limit = timeval(tv_sec: 60, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      setsockopt(self.descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
  }

  deinit { close(self.descriptor) }

  /// Sends as much as the peer takes before it closes.
  /// - Returns: whether that was all.
  @discardableResult
  func send(_ text: String) async -> Bool {
    let bytes = Array(text.utf8)
    let descriptor = self.descriptor
    return await Self.onThread {
      var sent = 0
      while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes {
          Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }

  /// What comes until the peer closes.
  /// - Throws: ``Failure`` with `EAGAIN` where it does not within a minute.
  func readToEnd() async throws -> String {
    let descriptor = self.descriptor
    let result: Result<[UInt8], Failure> = await Self.onThread {
      var bytes: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 65_536)
      while true {
        let count = recv(descriptor, &chunk, chunk.count, 0)
        if count > 0 {
          bytes += chunk[..<count]
        } else if count == 0 || errno == ECONNRESET {
          return .success(bytes)
        } else {
          return .failure(Failure(errno: errno))
        }
      }
    }
    return String(decoding: try result.get(), as: UTF8.self)
  }

  /// Reads until the text is there.
  func read(until end: String) async throws -> String {
    let descriptor = self.descriptor
    let result: Result<[UInt8], Failure> = await Self.onThread {
      var bytes: [UInt8] = []
      while !bytes.ends(with: Array(end.utf8)) {
        var byte: UInt8 = 0
        guard recv(descriptor, &byte, 1, 0) == 1 else { return .failure(Failure(errno: errno)) }
        bytes.append(byte)
      }
      return .success(bytes)
    }
    return String(decoding: try result.get(), as: UTF8.self)
  }

  /// Off the threads that all tests share: these calls block.
  private static func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread { continuation.resume(returning: body()) }
    }
  }
}

extension Array where Element == UInt8 {
  fileprivate func ends(with other: [UInt8]) -> Bool {
    self.count >= other.count && self.suffix(other.count).elementsEqual(other)
  }
}
