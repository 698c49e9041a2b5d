import Bus
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

@Suite struct LinkTests {
  @Test func putsEachLinksHostIntoTheEndpoints() throws {
    let links = try Link.parse(
      ["wired=10.0.0.2", "4g=fleet.example"],
      templates: [
        (\.ingestRPC, "tcp://{link}:7401"), (\.inferenceRPC, "tcp://127.0.0.1:7421"), (\.rolloutRPC, ""),
      ])
    #expect(links.map(\.name) == ["wired", "4g"])
    #expect(
      links.map { $0.endpoints.ingestRPC?.description } == [
        "tcp://10.0.0.2:7401", "tcp://fleet.example:7401",
      ])
    #expect(links[1].endpoints.inferenceRPC?.description == "tcp://127.0.0.1:7421")
    #expect(links[0].endpoints.rolloutRPC == nil)
  }

  @Test func hasOneLinkWhereNoneIsNamed() throws {
    let links = try Link.parse([], templates: [(\.ingestRPC, "ipc:///tmp/x")])
    #expect(links.map(\.name) == ["wired"])
  }

  @Test(arguments: [["wired"], ["=host"], ["a=h", "a=i"], ["wired="]]) func refusesNonsense(_ links: [String])
  {
    let error = #expect(throws: RobotError.self) {
      try Link.parse(links, templates: [(\.ingestRPC, "tcp://{link}:1")])
    }
    #expect(error?.code == .invalidConfiguration)
  }

  @Test func `a robot's calls that may be made twice are made again, an upload is not`() throws {
    let transport = try LinkSession.transport(Endpoint("inproc://nobody"), security: .none)
    let report = transport.config(forMethod: RolloutService.Method.ReportVersion.descriptor)
    #expect(report?.executionPolicy?.retry != nil)
    // Delivery decides about that: it knows what ingest has.
    #expect(transport.config(forMethod: IngestService.Method.Upload.descriptor)?.executionPolicy == nil)
  }
}

@Suite struct LinkChooserTests {
  /// Which links answer, and which were used.
  private final class Network: Sendable {
    let state: Mutex<(reachable: Set<String>, used: [String])>
    init(_ reachable: Set<String>) { self.state = Mutex((reachable, [])) }
    var used: [String] { self.state.withLock { $0.used } }
    func set(_ reachable: Set<String>) { self.state.withLock { $0.reachable = reachable } }
  }

  private func run(_ network: Network, failing: String = "", _ body: () async throws -> Void) async throws {
    let links = ["wired", "wifi", "4g"].map { Link(name: $0, endpoints: .init()) }
    let chooser = LinkChooser(
      links: links, interval: .milliseconds(5), runtime: .system,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      probe: { link in network.state.withLock { $0.reachable.contains(link.name) } },
      work: { link in
        network.state.withLock { $0.used.append(link.name) }
        if link.name == failing { throw CancellationError() }
        try await Task.sleep(for: .seconds(600))
      })
    let running = Task { try await chooser.run() }
    try await body()
    running.cancel()
    _ = await running.result
  }

  @Test func usesTheBestThatAnswers() async throws {
    let network = Network(["wifi", "4g"])
    try await self.run(network) {
      try await eventually("wifi is used") { network.used == ["wifi"] }
      network.set(["4g"])
      try await eventually("4g is used") { network.used == ["wifi", "4g"] }
      network.set([])
      try await Task.sleep(for: .milliseconds(50))
      network.set(["wired", "4g"])
      try await eventually("wired is used") { network.used == ["wifi", "4g", "wired"] }
    }
  }

  @Test func goesOnAfterALinkFailed() async throws {
    let network = Network(["wired"])
    try await self.run(network, failing: "wired") {
      try await eventually("wired is tried again") { network.used.count >= 2 }
    }
  }
}

@Suite struct AgentSettingsTests {
  private func settings(_ values: [String]) throws -> AgentSettings {
    try AgentSettings(
      ServiceConfiguration(service: "robot", commandLine: values, environment: [:], known: AgentSettings.all))
  }

  @Test func hasWorkingDefaults() throws {
    let settings = try self.settings([])
    #expect(settings.robot.actionBudget == .milliseconds(100))
    #expect(settings.links.map(\.name) == ["wired"])
    #expect(settings.links[0].endpoints.ingestRPC?.description == "tcp://127.0.0.1:7401")
    #expect(settings.robot.limits.maximumChange == nil)
  }

  @Test func takesWhatIsSet() throws {
    let settings = try self.settings([
      "robot.name=r7", "robot.action-budget-ms=500", "robot.maximum-change=0.5", "inference.rpc=",
      "robot.links=wired=10.0.0.2,wifi=10.1.0.2", "ingest.rpc=tcp://{link}:7401",
    ])
    #expect(settings.robot.identity.name == "r7")
    #expect(settings.robot.actionBudget == .milliseconds(500))
    #expect(settings.robot.limits.maximumChange == 0.5)
    #expect(settings.links.map(\.name) == ["wired", "wifi"])
    #expect(settings.links[1].endpoints.ingestRPC?.description == "tcp://10.1.0.2:7401")
    #expect(settings.links[1].endpoints.inferenceRPC == nil)
  }

  @Test func takesTheNamesThatEveryPartTakes() {
    for name in NameSamples.good + NameSamples.bad {
      let isTaken = (try? self.settings(["robot.name=\(name)"])) != nil
      #expect(isTaken == NameSamples.good.contains(name), "\(name.debugDescription)")
    }
  }

  @Test(arguments: [
    "robot.name=", "robot.name=a b", "robot.name=../x", "robot.name=..", "robot.trial-bytes=134217729",
    "robot.upload-seconds=0",
    "robot.action-budget-ms=0", "robot.chunk-steps=x",
    "robot.links=wired", "ingest.rpc=nowhere", "robot.spool-bytes=0", "robot.maximum-change=nan",
  ])
  func refusesNonsense(_ value: String) {
    #expect(throws: (any Error).self) { try self.settings([value]) }
  }
}
