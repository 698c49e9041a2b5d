import Foundation
import ServiceKit

/// All services and simulated robots of a fleet on this machine, as child processes.
package struct LocalFleet: Sendable {
  package var layout: FleetLayout
  /// Further `service.key` settings.
  package var settings: [String: String]
  /// Folder of the executables.
  let programs: URL
  /// Root of the repository, where the simulated robots are.
  let repository: URL
  let python: URL
  /// "metaworld", or "synthetic" for robots that move nothing.
  let simulator: String

  package init(
    data: String, robots: [String], simulator: String = "metaworld", settings: [String: String] = [:]
  ) throws {
    self.layout = try FleetLayout(data: data, robots: robots)
    self.simulator = simulator
    let executable = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    self.programs = executable.deletingLastPathComponent()
    self.repository = try Self.findRepository(from: executable)
    self.python =
      ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"].map { URL(filePath: $0) }
      ?? self.repository.appending(path: ".python/bin/python")
    self.settings = settings
  }

  /// The folder above the executable that holds `deploy/robots`.
  private static func findRepository(from executable: URL) throws -> URL {
    if let root = ProcessInfo.processInfo.environment["FLEETLOOP_ROOT"] { return URL(filePath: root) }
    var folder = executable.deletingLastPathComponent()
    while folder.path != "/" {
      if FileManager.default.fileExists(atPath: folder.appending(path: "deploy/robots").path) {
        return folder
      }
      folder.deleteLastPathComponent()
    }
    throw FleetError(
      .missingProgram,
      "deploy/robots is not above \(executable.path). Set FLEETLOOP_ROOT to the repository's folder.")
  }

  /// Starts everything in the order in which it is needed.
  package func start(_ supervisor: Supervisor, say: (String) -> Void) async throws {
    guard self.layout.robots.isEmpty || FileManager.default.isExecutableFile(atPath: self.python.path) else {
      throw FleetError(.missingProgram, "\(self.python.path) is missing. Run deploy/setup.")
    }
    try self.layout.makeFolders()
    var settings = self.defaults.merging(self.settings) { _, given in given }
    try self.layout.writeConfiguration(settings)
    for name in ["ingest", "monitor", "rollout", "inference", "training"] {
      let child = try await supervisor.start(self.service(name))
      guard name == "monitor", let page = child.endpoints?["http"] else { continue }
      say("status page: \(page)")
      // The port that it took: a page that is open must be there again when the monitor restarts.
      settings[EndpointSettings.monitorHTTP.key] = Self.address(ofPage: page)
      try self.layout.writeConfiguration(settings)
    }
    for robot in self.layout.robots {
      try await supervisor.start(self.agent(robot))
      try await supervisor.start(self.program(robot), saysReady: false)
    }
  }

  /// "127.0.0.1:43211" of "http://127.0.0.1:43211/".
  static func address(ofPage page: String) -> String {
    String(page.trimmingPrefix("http://").prefix { $0 != "/" })
  }

  /// Settings of a fleet on one machine.
  private var defaults: [String: String] {
    let signing = self.layout.folder("keys").appending(path: "signing.key").path
    let trusted = self.layout.folder("keys").appending(path: "signing.pub").path
    return [
      "ingest.data": self.layout.folder("ingest").path,
      "training.data": self.layout.folder("training").path,
      "training.signing-key": signing,
      "inference.data": self.layout.folder("inference").path,
      "inference.trusted-keys": trusted,
      "monitor.data": self.layout.folder("monitor").path,
      "monitor.http": "127.0.0.1:0",
      "rollout.data": self.layout.folder("rollout").path,
      "rollout.trusted-keys": trusted,
      "robot.trusted-keys": trusted,
      "fleet.robots": self.layout.robots.joined(separator: ","),
      "fleet.sockets": self.layout.sockets.path,
    ]
  }

  /// libgomp's threads must sleep, not spin, while they wait: two cores serve a dozen processes.
  private let environment = ["OMP_WAIT_POLICY": "passive"]

  private func service(_ name: String) -> ChildProcess {
    ChildProcess(
      name: name, executable: self.programs.appending(path: name),
      arguments: self.arguments([]), environment: self.environment,
      log: self.layout.log(name))
  }

  /// The end of `fleet up` is told to each child alone: the file also serves processes that others start.
  private func arguments(_ settings: [String]) -> [String] {
    ["--config", self.layout.configurationFile.path]
      + (settings + ["\(CommonSettings.parent.key)=\(getpid())"]).flatMap { ["--set", $0] }
  }

  private func agent(_ robot: String) -> ChildProcess {
    let settings = [
      "robot.name=\(robot)", "robot.data=\(self.layout.folder("robots/\(robot)").path)",
      "robot.rpc=\(self.layout.robotRPC(robot))",
    ]
    return ChildProcess(
      name: robot, executable: self.programs.appending(path: "robot"),
      arguments: self.arguments(settings),
      environment: self.environment, log: self.layout.log(robot))
  }

  /// The control program of a robot, which talks to its agent as a real robot's would.
  private func program(_ robot: String) -> ChildProcess {
    ChildProcess(
      name: "\(robot)-\(self.simulator)", executable: self.python,
      arguments: [
        self.repository.appending(path: "deploy/robots/\(self.simulator)").path, "--agent",
        self.layout.robotRPC(robot), "--robot", robot, "--parent", "\(getpid())",
      ] + (self.simulator == "synthetic" ? ["--tasks", "synthetic"] : []),
      log: self.layout.log("\(robot)-\(self.simulator)"))
  }
}
