package import ArgumentParser
import Foundation
import GRPCCore

/// How a command finds its fleet.
package struct FleetOptions: ParsableArguments {
  @Option(help: "Folder of the fleet on this machine.")
  package var data: String?

  @Option(help: "Folder of this operator's keys; for fleets that do not only listen on this machine.")
  package var keys: String?

  @Flag(help: "Print JSON.")
  package var json = false

  package init() {}

  /// Folder that was named; nil where none was.
  private var named: String? { self.data ?? ProcessInfo.processInfo.environment["FLEETLOOP_DATA"] }

  package var folder: String { self.named ?? "data" }

  /// What has to be added to a command so that it means the same fleet.
  package var again: String {
    (self.data.map { " --data \(CommandHint.quoted($0))" } ?? "")
      + (self.keys.map { " --keys \(CommandHint.quoted($0))" } ?? "")
  }

  private var configuration: URL { URL(filePath: self.folder).appending(path: "config.json") }

  /// - Throws: ``FleetError`` `.usage` where a folder was named that no fleet was ever started in.
  package func checkFolder() throws(FleetError) {
    guard let named, !FileManager.default.fileExists(atPath: self.configuration.path) else { return }
    throw FleetError(
      .usage,
      "\(named) is no fleet's folder: there is no \(self.configuration.path). "
        + "Name the folder that `fleet up --data` was given.")
  }

  /// Endpoints of the running fleet: from its configuration file where there is one, else the defaults.
  /// - Throws: ``FleetError`` `.usage`, as ``checkFolder()``, or `.fileSystem`.
  package func endpoints() throws -> [String: String] {
    try self.checkFolder()
    let file = self.configuration
    guard FileManager.default.fileExists(atPath: file.path) else { return [:] }
    guard
      let object = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: [String: Any]]
    else {
      throw FleetError(.fileSystem, "\(file.path) is not a fleet's configuration; start the fleet again.")
    }
    var endpoints: [String: String] = [:]
    for (service, settings) in object {
      for (name, value) in settings {
        endpoints["\(service).\(name)"] = (value as? [String])?.joined(separator: ",") ?? "\(value)"
      }
    }
    return endpoints
  }

  /// Runs `body` with clients of the fleet's services.
  package func withClients<Result: Sendable>(
    _ body: @Sendable (FleetClients) async throws -> Result
  ) async throws -> Result {
    let endpoints = try self.endpoints()
    let robots = RobotAddresses(endpoints["fleet.robots"] ?? "", sockets: endpoints["fleet.sockets"])
    do {
      return try await FleetClients.with(
        endpoints: endpoints, robots: robots.endpoints, robotNames: robots.names, keys: self.keys ?? "", body)
    } catch let error as RPCError {
      throw self.readable(error)
    }
  }

  /// An error of a service in words that say what to do.
  private func readable(_ error: RPCError) -> FleetError {
    guard error.isAway else { return FleetError(.refused, error.message) }
    // A keyless fleet has no keys that could be wrong.
    let why = self.keys == nil ? "" : " (\(error.message))"
    let known =
      self.named != nil || FileManager.default.fileExists(atPath: self.configuration.path)
      ? "" : " No folder was named and there is none called 'data' here: these are the default ports."
    return FleetError(
      .notRunning,
      CommandHint.text(
        "A service of the fleet does not answer\(why).\(known)", [.init("See", "fleet status")],
        again: self.again))
  }
}
