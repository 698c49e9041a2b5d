package import ArgumentParser
import Foundation
import ServiceKit

/// How a command finds its fleet.
package struct FleetOptions: ParsableArguments {
  @Option(help: "Folder of the fleet on this machine.")
  package var data: String?

  @Option(help: "Folder of this operator's keys; for fleets that do not only listen on this machine.")
  package var keys: String?

  @Flag(help: "Print JSON.")
  package var json = false

  package init() {}

  package var folder: String { self.data ?? ProcessInfo.processInfo.environment["FLEETLOOP_DATA"] ?? "data" }

  /// Endpoints of the running fleet: from its configuration file where there is one, else the defaults.
  package func endpoints() throws -> [String: String] {
    let file = URL(filePath: self.folder).appending(path: "config.json")
    guard FileManager.default.fileExists(atPath: file.path) else { return [:] }
    guard
      let object = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: [String: Any]]
    else {
      throw FleetError(.fileSystem, "\(file.path) is not a fleet's configuration; start the fleet again.")
    }
    var endpoints: [String: String] = [:]
    for (service, settings) in object {
      for (name, value) in settings { endpoints["\(service).\(name)"] = "\(value)" }
    }
    return endpoints
  }

  /// Runs `body` with clients of the fleet's services.
  package func withClients<Result: Sendable>(
    _ body: @Sendable (FleetClients) async throws -> Result
  ) async throws -> Result {
    let endpoints = try self.endpoints()
    var robots: [String: String] = [:]
    for robot in (endpoints["fleet.robots"] ?? "").split(separator: ",").map(String.init) {
      robots[robot] = endpoints["fleet.sockets"].map { "ipc://\($0)/robot-\(robot)" }
    }
    return try await FleetClients.with(
      endpoints: endpoints, robots: robots, keys: self.keys ?? "", body)
  }
}
