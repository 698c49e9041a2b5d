import Foundation

/// Robots that the fleet's configuration names, and where their agents answer calls.
package struct RobotAddresses: Sendable, Equatable {
  /// Names in the order in which they are written.
  package private(set) var names: [String] = []
  /// Endpoints by name; none where the configuration does not say.
  package private(set) var endpoints: [String: String] = [:]

  /// - Parameters:
  ///   - text: `fleet.robots`: "robot-1,arm-7=tcp://10.0.0.7:7451". A plain name is a robot of this machine.
  ///   - sockets: `fleet.sockets`: folder of this machine's sockets; nil where no robot is on this machine.
  package init(_ text: String, sockets: String?) {
    for entry in text.split(separator: ",") {
      let parts = entry.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
      guard let name = parts.first, !name.isEmpty else { continue }
      if !self.names.contains(name) { self.names.append(name) }
      self.endpoints[name] =
        parts.count == 2 && !parts[1].isEmpty ? parts[1] : sockets.map { "ipc://\($0)/robot-\(name)" }
    }
  }
}
