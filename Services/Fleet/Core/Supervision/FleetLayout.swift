package import Foundation
import ServiceKit
import Storage

/// Where a fleet on one machine keeps its things, and where its services meet.
///
/// ```
/// DATA/config.json             settings of every service (written by `fleet up`)
/// DATA/fleet.pid               process of the running `fleet up`
/// DATA/processes.json          how each process is, while `fleet up` runs
/// DATA/logs/NAME.log           standard error of every process, of this start and the last
/// DATA/ingest, training …      what each service keeps
/// DATA/robots/NAME             spool and model of each simulated robot
/// ```
package struct FleetLayout: Sendable {
  package let data: URL
  /// Short, because a unix socket's path may have no more than 107 bytes.
  package let sockets: URL
  package let robots: [String]

  /// - Parameter data: folder of the fleet; made where it is missing.
  package init(data: String, robots: [String]) throws(FleetError) {
    let url = URL(filePath: data).standardizedFileURL
    self.data = url
    self.robots = robots
    // The same folder gives the same sockets, so that `fleet status` finds a fleet by its data alone.
    let hash = url.path.utf8.reduce(into: UInt64(14_695_981_039_346_656_037)) {
      $0 = ($0 ^ UInt64($1)) &* 1_099_511_628_211
    }
    self.sockets = URL(filePath: "/tmp/fleetloop-\(getuid())-\(String(hash, radix: 36))")
  }

  package var configurationFile: URL { self.data.appending(path: "config.json") }
  package var processFile: URL { self.data.appending(path: "fleet.pid") }
  package var processTable: URL { self.data.appending(path: "processes.json") }
  package func log(_ name: String) -> URL { self.data.appending(path: "logs/\(name).log") }
  package func folder(_ name: String) -> URL { self.data.appending(path: name) }

  package func socket(_ name: String) -> String { "ipc://\(self.sockets.path)/\(name)" }

  /// Where the agent of a robot answers calls.
  package func robotRPC(_ robot: String) -> String { self.socket("robot-\(robot)") }

  /// Makes every folder. Sockets go where only this user can reach them.
  package func makeFolders() throws(FleetError) {
    do {
      for folder in ["logs", "ingest", "training", "inference", "monitor", "rollout", "robots", "keys"] {
        try SystemDisk().makeFolder(self.folder(folder).path)
      }
      try FileManager.default.createDirectory(
        at: self.sockets, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw FleetError(
        .fileSystem, "Cannot make the folders under \(self.data.path). Choose another place with --data.",
        cause: error)
    }
    // /tmp is everybody's: who made this folder first could listen in.
    var status = stat()
    guard lstat(self.sockets.path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR,
      status.st_uid == getuid(), status.st_mode & 0o077 == 0
    else {
      throw FleetError(
        .fileSystem,
        "\(self.sockets.path) is not a folder of yours alone. Remove it, or choose another --data folder.")
    }
  }

  /// Endpoints of all services, as settings.
  package var endpoints: [String: String] {
    Dictionary(
      uniqueKeysWithValues: [
        EndpointSettings.ingestRPC, EndpointSettings.ingestTrials, EndpointSettings.ingestPublications,
        EndpointSettings.trainingRPC, EndpointSettings.trainingPublications, EndpointSettings.inferenceRPC,
        EndpointSettings.monitorRPC, EndpointSettings.monitorTelemetry, EndpointSettings.monitorPublications,
        EndpointSettings.rolloutRPC, EndpointSettings.rolloutPublications,
      ].map { ($0.key, self.socket($0.key)) })
  }

  /// Writes the configuration that every service of this fleet reads.
  /// - Parameter settings: further `service.key` values, which win over the layout's.
  package func writeConfiguration(_ settings: [String: String]) throws {
    let all = self.endpoints.merging(settings) { _, given in given }
    var object: [String: [String: String]] = [:]
    for (key, value) in all {
      let parts = key.split(separator: ".", maxSplits: 1).map(String.init)
      object[parts[0], default: [:]][parts[1]] = value
    }
    let data = try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
    try data.write(to: self.configurationFile, options: .atomic)
  }
}
