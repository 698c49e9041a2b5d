import Bus
import Foundation
import GRPCCore
import Schemas
import Synchronization
import TestSupport
import Testing

@testable import RolloutCore

/// Rollout, the monitor and robots as they really are, ingest answered from memory.
@Suite("The rollout executable")
struct RolloutServiceTests {
  private let folder: TemporaryFolder
  private let maker: ModelMaker

  init() throws {
    self.folder = try TemporaryFolder()
    self.maker = try ModelMaker(folder: self.folder.path)
  }

  private func ipc(_ name: String) -> String { "ipc://\(self.folder.path)/\(name)" }

  private func rollout(_ more: [String: String] = [:]) async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      "rollout",
      settings: [
        "rollout.data": "\(self.folder.path)/rollout",
        "rollout.trusted-keys": "\(self.folder.path)/signing.pub",
        "rollout.rpc": self.ipc("r"), "rollout.publications": self.ipc("rp"), "ingest.rpc": self.ipc("i"),
        "monitor.rpc": self.ipc("m"), "monitor.publications": self.ipc("mp"),
        "rollout.publish-milliseconds": "100", "rollout.poll-milliseconds": "100",
      ].merging(more) { _, new in new })
  }

  private func monitor() async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      "monitor",
      settings: [
        "monitor.data": "\(self.folder.path)/monitor", "monitor.rpc": self.ipc("m"),
        "monitor.publications": self.ipc("mp"), "monitor.telemetry": self.ipc("mt"),
        "monitor.http": "127.0.0.1:0", "ingest.rpc": self.ipc("i"), "ingest.publications": self.ipc("ip"),
        "rollout.rpc": self.ipc("r"), "monitor.poll-milliseconds": "100",
      ])
  }

  private func withRollout<Result: Sendable>(
    _ body: @Sendable (GRPCClient<ZeroMQClientTransport>) async throws -> Result
  ) async throws -> Result {
    try await withGRPCClient(
      transport: try ZeroMQClientTransport(connect: try Endpoint(self.ipc("r"))), handleClient: body)
  }

  /// Robots that do what is desired.
  private static func obey(
    _ robots: [String], _ rollout: RolloutService.Client<ZeroMQClientTransport>
  ) async throws {
    for robot in robots {
      let desired = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: robot))
      _ = try await rollout.reportVersion(
        ReportVersionRequest(robot: robot, version: desired.version, following: desired))
    }
  }

  @Test func `a regression is noticed and the release taken back`() async throws {
    let ingest = FakeIngest()
    let transport = try ZeroMQServerTransport(bind: try Endpoint(self.ipc("i")))
    try await withGRPCServer(transport: transport, services: [ingest]) { _ in
      let monitor = try await self.monitor()
      let service = try await self.rollout()
      try await self.withRollout { client in
        let rollout = RolloutService.Client(wrapping: client)
        _ = try await register(try self.maker.make("v1"), with: client)
        _ = try await register(try self.maker.make("v-bad", seed: 2), with: client)
        let robots = ["a", "b", "c", "d"]
        try await Self.obey(robots, rollout)
        let good = try await rollout.createRelease(CreateReleaseRequest(version: "v1"))
        try await Self.obey(robots, rollout)
        ingest.store(
          robot: "a", version: "v1", release: good.releaseID,
          outcomes: Array(repeating: .success, count: 27) + Array(repeating: .failure, count: 3))
        let bad = try await rollout.createRelease(
          CreateReleaseRequest(version: "v-bad", robots: ["a", "b"], guarded: true))
        #expect(bad.previousVersion == "v1")
        try await Self.obey(["a", "b"], rollout)
        ingest.store(
          robot: "a", version: "v-bad", release: bad.releaseID, outcomes: Array(repeating: .failure, count: 5)
        )
        ingest.store(
          robot: "b", version: "v-bad", release: bad.releaseID, outcomes: Array(repeating: .failure, count: 7)
        )
        let ask = GetReleaseRequest(releaseID: bad.releaseID)
        try await eventually("the release is taken back") {
          try await rollout.getRelease(ask).state == .rolledBack
        }
        try await Self.obey(["a", "b"], rollout)
        let done = try await rollout.getRelease(ask)
        #expect(done.restoredUnixNanos >= done.rolledBackUnixNanos)
        #expect(done.restoredUnixNanos > 0)
        #expect(done.evidence.contains("release_trials=12"))
        #expect(done.alertID.hasPrefix("alert-"))
        let versions = try await rollout.getFleetVersions(GetFleetVersionsRequest())
        #expect(versions.robots.map(\.reported) == ["v1", "v1", "v1", "v1"])
        try await withGRPCClient(
          transport: try ZeroMQClientTransport(connect: try Endpoint(self.ipc("m")))
        ) { client in
          let monitor = MonitorService.Client(wrapping: client)
          // The watch ends with the release, and the alert with the watch.
          try await eventually("the alert is resolved") {
            let alerts = try await monitor.listAlerts(ListAlertsRequest(includeResolved: true)).alerts
            return alerts.contains {
              $0.alertID == done.alertID && $0.name == "SuccessRateRegression" && $0.state == .resolved
            }
          }
        }
      }
      #expect(service.terminate() == 0)
      #expect(monitor.terminate() == 0)
    }
  }

  @Test func `an experiment is decided by what ingest counted`() async throws {
    let ingest = FakeIngest()
    let transport = try ZeroMQServerTransport(bind: try Endpoint(self.ipc("i")))
    try await withGRPCServer(transport: transport, services: [ingest]) { _ in
      let service = try await self.rollout()
      try await self.withRollout { client in
        let rollout = RolloutService.Client(wrapping: client)
        for (index, version) in ["v1", "v2"].enumerated() {
          _ = try await register(try self.maker.make(version, seed: UInt8(index)), with: client)
        }
        let robots = ["a", "b", "c", "d"]
        try await Self.obey(robots, rollout)
        let started = try await rollout.startExperiment(
          StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 20, seed: 5))
        try await Self.obey(robots, rollout)
        ingest.store(
          robot: "a", version: "v1", release: started.releaseIDBaseline,
          outcomes: Array(repeating: .failure, count: 15) + Array(repeating: .success, count: 5))
        ingest.store(
          robot: "b", version: "v2", release: started.releaseIDCandidate,
          outcomes: Array(repeating: .success, count: 19))
        let ask = GetExperimentRequest(experimentID: started.experimentID)
        try await eventually("both arms are counted") {
          let now = try await rollout.getExperiment(ask)
          return now.baseline?.trials == 20 && now.candidate?.trials == 19
        }
        #expect(try await rollout.getExperiment(ask).state == .running)
        ingest.store(robot: "b", version: "v2", release: started.releaseIDCandidate, outcomes: [.success])
        try await eventually("it is decided") { try await rollout.getExperiment(ask).state == .decided }
        #expect(try await rollout.getExperiment(ask).decision == .promote)
        for robot in robots {
          let desired = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: robot))
          #expect(desired.version == "v2")
        }
      }
      withExtendedLifetime(service) {}
    }
  }

  @Test func `a robot hears its version when it comes back, and over again until it reports`() async throws {
    let service = try await self.rollout()
    try await self.withRollout { client in
      let rollout = RolloutService.Client(wrapping: client)
      _ = try await register(try self.maker.make("v1"), with: client)
      _ = try await rollout.reportVersion(ReportVersionRequest(robot: "a"))
      let release = try await rollout.createRelease(CreateReleaseRequest(version: "v1"))
      // It was away while the release was made.
      let subscriber = try Subscriber(
        .connect([try Endpoint(self.ipc("rp"))]), topics: [.releases(robot: "a")])
      var heard: [DesiredVersion] = []
      for await message in subscriber.messages {
        heard.append(try message.decode(DesiredVersion.self))
        if heard.count == 2 { break }
      }
      await subscriber.close()
      #expect(heard[0] == heard[1])
      #expect(heard[0].version == "v1" && heard[0].releaseID == release.releaseID && heard[0].generation == 1)
      #expect(heard[0].epoch != 0 && heard[0].manifestSha256.count == 32 && !heard[0].remove)
      let answer = try await rollout.reportVersion(
        ReportVersionRequest(robot: "a", version: "v1", following: heard[0]))
      #expect(answer == heard[0])
      #expect(
        try await rollout.getRelease(GetReleaseRequest(releaseID: release.releaseID)).state == .complete)
    }
    withExtendedLifetime(service) {}
  }

  @Test func `kill -9 loses nothing that was answered`() async throws {
    struct Seen: Sendable, Equatable {
      var releases: [Release] = []
      var experiments: [Experiment] = []
      var robots: [RobotVersion] = []
      var models: [String] = []
    }
    @Sendable func look(_ client: GRPCClient<ZeroMQClientTransport>) async throws -> Seen {
      let rollout = RolloutService.Client(wrapping: client)
      let registry = ModelRegistryService.Client(wrapping: client)
      return Seen(
        releases: try await rollout.listReleases(ListReleasesRequest()).releases,
        experiments: try await rollout.listExperiments(ListExperimentsRequest()).experiments,
        robots: try await rollout.getFleetVersions(GetFleetVersionsRequest()).robots,
        models: try await registry.listModels(ListModelsRequest()).models.map(\.version))
    }
    let models = try (1...6).map { try self.maker.make("v\($0)", seed: UInt8($0)) }
    let last = Mutex(Seen())
    for round in 1...6 {
      let service = try await self.rollout()
      try await self.withRollout { client in
        let rollout = RolloutService.Client(wrapping: client)
        // A robot that reports may complete a release; nobody reports before this look.
        var before = last.withLock { $0 }
        let after = try await look(client)
        for (index, robot) in after.robots.enumerated() {
          // Times alone are stored now and then: they may be older, but are not gone.
          #expect((1...before.robots[index].reportedUnixNanos).contains(robot.reportedUnixNanos))
          before.robots[index].reportedUnixNanos = robot.reportedUnixNanos
        }
        #expect(after == before)
        _ = try await register(models[round - 1], with: client)
        for robot in ["a", "b", "c"] {
          _ = try await rollout.reportVersion(ReportVersionRequest(robot: robot))
        }
        let release = try await rollout.createRelease(CreateReleaseRequest(version: "v\(round)"))
        if round.isMultiple(of: 2) {
          _ = try await rollout.rollback(RollbackRequest(releaseID: release.releaseID, reason: "test"))
        } else {
          try await Self.obey(["a", "b"], rollout)
        }
        let seen = try await look(client)
        last.withLock { $0 = seen }
        // A model that was on its way when the process died.
        if round < 6 {
          let half = Array(models[round].dropLast())
          let registry = ModelRegistryService.Client(wrapping: client)
          async let answer = registry.registerModel(options: .defaults) { writer in
            try await writer.write(contentsOf: half)
            try await Task.sleep(for: .milliseconds(100))
            service.kill()
          }
          _ = try? await answer
        }
      }
      service.kill()
    }
    #expect(last.withLock { $0.models.count } == 6)
  }

  @Test func `what cannot be served is told before READY`() async throws {
    let service = try await self.rollout()
    do {
      _ = try await self.rollout()
      Issue.record("two processes own one folder")
    } catch let failure as ServiceUnderTest.Failure {
      #expect(failure.description.contains("Another rollout owns"))
    }
    withExtendedLifetime(service) {}
  }

  @Test func `unknown models, robots and releases get an answer that helps`() async throws {
    let service = try await self.rollout()
    try await self.withRollout { client in
      let rollout = RolloutService.Client(wrapping: client)
      func code(_ body: () async throws -> Void) async -> RPCError.Code? {
        do { try await body() } catch { return (error as? RPCError)?.code }
        return nil
      }
      #expect(
        await code { _ = try await rollout.createRelease(CreateReleaseRequest(version: "v9")) } == .notFound)
      #expect(
        await code { _ = try await rollout.getRelease(GetReleaseRequest(releaseID: "x")) } == .notFound)
      #expect(
        await code { _ = try await rollout.reportVersion(ReportVersionRequest(robot: "a/b")) }
          == .invalidArgument)
      var tampered = try self.maker.make("v1")
      tampered.removeLast()
      let cut = tampered
      #expect(await code { _ = try await register(cut, with: client) } == .invalidArgument)
      let stranger = try TemporaryFolder()
      let foreign = try ModelMaker(folder: stranger.path).make("v1")
      #expect(await code { _ = try await register(foreign, with: client) } == .permissionDenied)
    }
    withExtendedLifetime(service) {}
  }

  @Test func `with keys, a robot speaks for itself only and releases nothing`() async throws {
    let own = KeyStore(folder: "\(self.folder.path)/keys-rollout")
    let server = try own.create(name: "rollout", role: .rollout)
    for (name, role) in [("ingest", Role.ingest), ("monitor", .monitor)] {
      try own.authorize(.init(name: name, role: role, publicKey: try KeyPair().publicKey))
    }
    let robot = KeyStore(folder: "\(self.folder.path)/keys-a")
    let pair = try robot.create(name: "a", role: .robot)
    try own.authorize(.init(name: "a", role: .robot, publicKey: pair.publicKey))
    let service = try await self.rollout(["bus.keys": own.folder])
    try await withGRPCClient(
      transport: try ZeroMQClientTransport(
        connect: try Endpoint(self.ipc("r")),
        security: try .curve(robot, serverKey: server.publicKey))
    ) { client in
      let rollout = RolloutService.Client(wrapping: client)
      func code(_ body: () async throws -> Void) async -> RPCError.Code? {
        do { try await body() } catch { return (error as? RPCError)?.code }
        return nil
      }
      #expect(
        await code { _ = try await rollout.reportVersion(ReportVersionRequest(robot: "a")) } == nil)
      #expect(
        await code { _ = try await rollout.reportVersion(ReportVersionRequest(robot: "b")) }
          == .permissionDenied)
      #expect(
        await code { _ = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: "b")) }
          == .permissionDenied)
      #expect(
        await code { _ = try await rollout.createRelease(CreateReleaseRequest(version: "v1")) }
          == .permissionDenied)
    }
    withExtendedLifetime(service) {}
  }
}
