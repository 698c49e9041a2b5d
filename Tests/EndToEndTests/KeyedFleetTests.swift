import Foundation
import TestSupport
import Testing

/// A fleet as it is run on several machines: every socket is tcp with CURVE, every process has a key of its own.
@Suite("a fleet with keys", .serialized, .timeLimit(.minutes(5)))
struct KeyedFleetTests {
  private static let services = ["ingest", "training", "inference", "monitor", "rollout"]

  private let folder: TemporaryFolder
  private let configuration: String

  init() throws {
    self.folder = try TemporaryFolder()
    self.configuration = "\(self.folder.path)/config.json"
    let port = try FreePorts.take(11)
    let settings: [String: [String: String]] = [
      // What `fleet up` writes too, so that `fleet robots work` finds the agent.
      "fleet": ["robots": "robot-1", "sockets": self.folder.path],
      "ingest": ["rpc": port(0), "trials": port(1), "publications": port(2)],
      "training": ["rpc": port(3), "publications": port(4), "signing-key": "\(self.folder.path)/sign.key"],
      "inference": ["rpc": port(5), "trusted-keys": "\(self.folder.path)/sign.pub"],
      "monitor": [
        "rpc": port(6), "telemetry": port(7), "publications": port(8), "http": "127.0.0.1:0",
      ],
      "rollout": ["rpc": port(9), "publications": port(10), "trusted-keys": "\(self.folder.path)/sign.pub"],
      "robot": ["trusted-keys": "\(self.folder.path)/sign.pub"],
    ]
    try JSONEncoder().encode(settings).write(to: URL(filePath: self.configuration))
  }

  private func keys(_ name: String) -> String { "\(self.folder.path)/keys/\(name)" }

  private func fleet(_ arguments: String..., as name: String = "ops") async throws -> Program.Result {
    try await Program.run(
      Program.built("fleet"), arguments + ["--data", self.folder.path, "--keys", self.keys(name)])
  }

  private func keys(_ arguments: [String]) async throws -> String {
    let result = try await Program.run(Program.built("fleet"), ["keys"] + arguments)
    try #require(result.status == 0, "\(result.errors)")
    return result.output.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Everybody's key, known to everybody but the stranger's.
  private func makeKeys() async throws -> [String: String] {
    let names = Self.services + ["robot-1", "ops"]
    var publicKeys: [String: String] = [:]
    for name in names + ["stranger"] {
      publicKeys[name] = try await self.keys([
        "new", name, "--role", self.role(name), "--keys", self.keys(name),
      ])
    }
    for name in names {
      let others = (names + ["stranger"]).filter { $0 != name }.flatMap { ["--keys", self.keys($0)] }
      _ = try await self.keys(
        ["authorize", name, publicKeys[name] ?? "", "--role", self.role(name)] + others)
    }
    return publicKeys
  }

  private func role(_ name: String) -> String {
    switch name {
    case "robot-1": "robot"
    case "ops", "stranger": "operator"
    default: name
    }
  }

  private func start(_ name: String, _ settings: [String: String]) async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      name, configuration: self.configuration,
      settings: settings.merging(["log.level": "error"]) { given, _ in given })
  }

  @Test func `robots work, models reach them, strangers and revoked keys do not`() async throws {
    let publicKeys = try await self.makeKeys()
    var running: [String: ServiceUnderTest] = [:]
    for name in Self.services {
      running[name] = try await self.start(
        name, ["bus.keys": self.keys(name), "\(name).data": "\(self.folder.path)/data/\(name)"])
    }
    let page = try #require(running["monitor"]?.endpoints["http"])
    let agent = try await self.start(
      "robot",
      [
        "bus.keys": self.keys("robot-1"), "robot.name": "robot-1", "robot.data": "\(self.folder.path)/robot",
        "robot.rpc": "ipc://\(self.folder.path)/robot-robot-1",
      ])
    let program = try Program.start(
      Program.root + "/.python/bin/python",
      [
        Program.root + "/deploy/robots/synthetic", "--agent", "ipc://\(self.folder.path)/robot-robot-1",
        "--keys", self.keys("robot-1"), "--success", "1", "--parent", "\(getpid())",
      ])
    defer { program.terminate() }

    try await eventually("every service serves") { try await self.fleet("status").status == 0 }
    let stranger = try await self.fleet("status", as: "stranger")
    #expect(stranger.status != 0)
    try await eventually("the robot is seen") {
      try await self.fleet("robots").output.contains("idle")
    }
    let demonstrations = try await self.fleet("robots", "work", "synthetic", "--trials", "3")
    #expect(demonstrations.output.contains("3 of 3 trials succeeded"), "\(demonstrations.errors)")
    let training = try await self.fleet(
      "train", "start", "--version", "v1", "--seconds", "1", "--image-size", "64")
    #expect(training.status == 0, "\(training.errors)")
    #expect(try await self.fleet("rollout", "release", "v1").status == 0)
    try await eventually("the robot acts with v1") {
      try await self.fleet("robots").output.contains("v1")
    }
    let acting = try await self.fleet(
      "robots", "work", "synthetic", "--mode", "policy", "--trials", "2", "--first-seed", "100")
    #expect(acting.output.contains("2 of 2 trials succeeded"), "\(acting.errors)")

    // A revoked robot keeps its trials, and delivers them when it is let in again.
    _ = try await self.keys(["revoke", "robot-1", "--keys", self.keys("ingest")])
    async let late = self.fleet("robots", "work", "synthetic", "--trials", "1", "--first-seed", "200")
    try await eventually("ingest turned the robot away") {
      let text = try await Self.text("\(page)metrics")
      return Self.value("fleetloop_bus_turned_away_total", "ingest", text) > 0
        || Self.value("fleetloop_bus_handshakes_refused_total", "ingest", text) > 0
    }
    #expect(try await Self.trials(self.fleet("trials", "--json")) == 5)
    _ = try await self.keys([
      "authorize", "robot-1", publicKeys["robot-1"] ?? "", "--role", "robot", "--keys", self.keys("ingest"),
    ])
    let delivered = try await late
    #expect(delivered.output.contains("1 of 1 trials succeeded"), "\(delivered.errors)")
    #expect(try await Self.trials(self.fleet("trials", "--json")) == 6)
    #expect(agent.terminate() == 0)
    for service in running.values { #expect(service.terminate() == 0) }
  }

  private static func trials(_ listing: Program.Result) throws -> Int {
    let page = try JSONSerialization.jsonObject(with: Data(listing.output.utf8)) as? [String: Any]
    return try #require(page?["trials"] as? [Any], "\(listing.errors)").count
  }

  private static func text(_ address: String) async throws -> String {
    try await Program.run("/usr/bin/env", ["curl", "-s", "-m", "5", address]).output
  }

  /// 0 where there is no such series.
  private static func value(_ name: String, _ service: String, _ page: String) -> Double {
    let prefix = "\(name){service=\"\(service)\"} "
    let line = page.split(separator: "\n").first { $0.hasPrefix(prefix) }
    return line.flatMap { Double($0.dropFirst(prefix.count)) } ?? 0
  }
}
