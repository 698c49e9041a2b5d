import Foundation

/// Where a socket binds or connects: `tcp://HOST:PORT`, `ipc:///PATH` or `inproc://NAME`.
public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
  public enum Transport: String, Sendable, Hashable { case tcp, ipc, inproc }

  public let transport: Transport
  /// What follows `://`.
  public let address: String

  /// A path of an ipc endpoint is at most this long: the kernel's `sun_path` less its terminator.
  static let longestPath = 107

  /// - Parameter text: when binding, a tcp port may be 0 or `*` (any that is free), and a host `*` (every interface).
  /// - Throws: ``BusError`` with code `invalidEndpoint`.
  public init(_ text: String) throws {
    func refuse(_ reason: String) -> BusError {
      BusError(
        .invalidEndpoint,
        "\"\(text)\" is no endpoint: \(reason). Write tcp://HOST:PORT, ipc:///PATH or inproc://NAME.")
    }
    guard let separator = text.range(of: "://"),
      let transport = Transport(rawValue: String(text[..<separator.lowerBound]))
    else { throw refuse("it does not begin with tcp://, ipc:// or inproc://") }
    let address = String(text[separator.upperBound...])
    guard !address.isEmpty, !address.utf8.contains(0) else { throw refuse("it has no address") }
    switch transport {
    case .tcp:
      guard let colon = address.lastIndex(of: ":"), colon > address.startIndex else {
        throw refuse("it has no port")
      }
      let port = address[address.index(after: colon)...]
      guard port == "*" || UInt16(port) != nil else { throw refuse("\"\(port)\" is no port") }
    case .ipc:
      guard address.utf8.count <= Self.longestPath else {
        throw refuse("its path is longer than \(Self.longestPath) bytes")
      }
    case .inproc: break
    }
    self.transport = transport
    self.address = address
  }

  public var description: String { "\(self.transport.rawValue)://\(self.address)" }

  /// The host of a tcp endpoint, without brackets.
  var host: String? {
    guard self.transport == .tcp, let colon = self.address.lastIndex(of: ":") else { return nil }
    return self.address[..<colon].trimmingCharacters(in: ["[", "]"])
  }

  /// Whether only this machine can reach it: ipc, inproc, or tcp on a loopback address.
  public var isLocal: Bool {
    guard let host else { return true }
    // Only an address: "127.example" is a name, and "127.0.0.1:0;peer" comes from here and goes elsewhere.
    let octets = host.split(separator: ".", omittingEmptySubsequences: false)
    let isLoopback = octets.count == 4 && octets[0] == "127" && octets.allSatisfy { UInt8($0) != nil }
    return host == "localhost" || host == "::1" || isLoopback
  }
}
