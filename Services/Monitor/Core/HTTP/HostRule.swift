/// Which `Host` a request may name. A page from elsewhere whose name is made to resolve to this machine (DNS rebinding)
/// names itself.
struct HostRule: Sendable, Hashable {
  private let names: Set<String>
  /// Where every address of the machine is bound, each of them is a right one. An address cannot be rebound.
  private let allowsAddresses: Bool

  /// - Parameters:
  ///   - bound: the address that the server is bound to.
  ///   - more: `monitor.http-hosts`, without ports.
  init(bound: String, more: [String]) {
    self.names = Set((["localhost", "127.0.0.1", "[::1]", bound] + more).map { $0.lowercased() })
    self.allowsAddresses = bound == "0.0.0.0"
  }

  /// - Parameter host: the header's value, with or without a port.
  func allows(_ host: String) -> Bool {
    guard let name = Self.name(of: host.lowercased()) else { return false }
    return self.names.contains(name) || self.allowsAddresses && Self.isAddress(name)
  }

  /// Nil where what follows the name is no port.
  private static func name(of host: String) -> String? {
    let end = host.hasPrefix("[") ? host.firstIndex(of: "]").map { host.index(after: $0) } : nil
    let split = end ?? host.firstIndex(of: ":") ?? host.endIndex
    let rest = host[split...]
    guard rest.isEmpty || rest.hasPrefix(":") && rest.dropFirst().allSatisfy(\.isNumber) else { return nil }
    return String(host[..<split])
  }

  static func isAddress(_ name: String) -> Bool {
    let bytes = name.split(separator: ".", omittingEmptySubsequences: false)
    return bytes.count == 4 && bytes.allSatisfy { UInt8($0) != nil }
  }
}
