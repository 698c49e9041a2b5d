import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Storage
import TestSupport
import Testing

@testable import RolloutCore

/// A database with a record that nobody understands, or of a version that noted no content.
@Suite("Rollout with damaged records")
struct PinTests {
  private static let tables = ["robot", "release", "experiment", "fleet", "pin"]
  private let folder: TemporaryFolder
  private let maker: ModelMaker

  init() throws {
    self.folder = try TemporaryFolder()
    self.maker = try ModelMaker(folder: self.folder.path)
  }

  private func withRollout<Result: Sendable>(
    _ body:
      @Sendable (RolloutService.Client<ZeroMQClientTransport>, GRPCClient<ZeroMQClientTransport>)
      async throws -> Result
  ) async throws -> Result {
    func ipc(_ name: String) -> String { "ipc://\(self.folder.path)/\(name)" }
    let service = try await ServiceUnderTest(
      "rollout",
      settings: [
        "rollout.data": "\(self.folder.path)/rollout",
        "rollout.trusted-keys": "\(self.folder.path)/signing.pub", "rollout.rpc": ipc("r"),
        "rollout.publications": ipc("rp"), "ingest.rpc": ipc("i"), "monitor.rpc": ipc("m"),
        "monitor.publications": ipc("mp"),
      ])
    defer { service.kill() }
    return try await withGRPCClient(transport: try ZeroMQClientTransport(connect: try Endpoint(ipc("r")))) {
      try await body(RolloutService.Client(wrapping: $0), $0)
    }
  }

  /// Two versions: one released to robots a and b, then both in an experiment.
  /// - Returns: what is desired of each robot.
  private func release() async throws -> [String: DesiredVersion] {
    let models = (try self.maker.make("v1", seed: 1), try self.maker.make("v2", seed: 2))
    return try await self.withRollout { rollout, client in
      _ = try await register(models.0, with: client)
      _ = try await register(models.1, with: client)
      for robot in ["a", "b"] {
        _ = try await rollout.reportVersion(ReportVersionRequest(robot: robot))
      }
      _ = try await rollout.createRelease(CreateReleaseRequest(version: "v1"))
      _ = try await rollout.startExperiment(
        StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 5, seed: 1))
      var desired: [String: DesiredVersion] = [:]
      for robot in ["a", "b"] {
        desired[robot] = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: robot))
      }
      return desired
    }
  }

  /// Writes over, or deletes, each record of a table.
  private func spoil(_ table: String, delete: Bool) async throws {
    let ids = try await self.ids(table)
    #expect(!ids.isEmpty)
    let store = try await self.opened {
      try RecordStore(folder: "\(self.folder.path)/rollout", name: "rollout", tables: Self.tables)
    }
    var changes = RecordStore.Changes()
    for id in ids {
      if delete {
        changes.delete(id, in: table)
      } else {
        changes.put([UInt8](repeating: 0xFF, count: 2), id: id, in: table)
      }
    }
    try store.apply(changes)
  }

  /// Opens what was closed just now. A process that another test begins at that moment holds its lock a little longer: a child has
  /// its parent's open files until it is another program.
  private func opened<Store>(_ open: () throws -> Store) async throws -> Store {
    for _ in 0..<500 {
      if let store = try? open() { return store }
      try await Task.sleep(for: .milliseconds(10))
    }
    return try open()
  }

  private func ids(_ table: String) async throws -> [String] {
    let state = try await self.opened { try RolloutStore(folder: "\(self.folder.path)/rollout") }.load()
    return switch table {
    case "robot": state.robots.keys.sorted()
    case "release": state.releases.keys.sorted()
    case "experiment": state.experiments.keys.sorted()
    case "pin": state.pins.keys.sorted()
    default: ["fleet"]
    }
  }

  @Test(arguments: [true, false])
  func `robots are told the content of their version also where no pin says it`(delete: Bool) async throws {
    let before = try await self.release()
    try await self.spoil("pin", delete: delete)
    try await self.withRollout { rollout, client in
      for (robot, was) in before {
        let now = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: robot))
        #expect(now == was && now.manifestSha256.count == 32)
      }
    }
  }

  /// Each robot says what it follows, as it does when rollout is back.
  @Test(arguments: ["robot", "release", "experiment", "fleet", "pin"])
  func `whatever record is damaged, rollout starts and no robot loses its model`(table: String) async throws {
    let before = try await self.release()
    try await self.spoil(table, delete: false)
    try await self.withRollout { rollout, client in
      for (robot, was) in before.sorted(by: { $0.key < $1.key }) {
        let report = ReportVersionRequest(
          robot: robot, version: was.version, following: was, manifestSha256: was.manifestSha256)
        let now = try await rollout.reportVersion(report)
        #expect(!now.remove && now.version == was.version && now.manifestSha256 == was.manifestSha256)
      }
    }
  }

  @Test func `a version whose pin and content are gone is told, and is never released again`() async throws {
    _ = try await self.release()
    try await self.spoil("pin", delete: true)
    try FileManager.default.removeItem(atPath: "\(self.folder.path)/rollout/models")
    let (vitals, folder) = (Vitals(), "\(self.folder.path)/rollout")
    do {
      let rollout = try Rollout(
        store: RolloutStore(folder: folder), metrics: MetricsRegistry(), vitals: vitals,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      try await rollout.pinReleased { _ in nil }
      let lost = try #require(vitals.broken.first)
      #expect(lost.reason.contains("v1, v2") && lost.reason.contains("Release another version"))
    }
    // Something else comes under the old names, and something new. A restart makes no difference.
    let other = try (
      self.maker.make("v1", seed: 8), self.maker.make("v2", seed: 9), self.maker.make("v3", seed: 3)
    )
    for isRestarted in [false, true] {
      try await self.withRollout { rollout, client in
        for model in [other.0, other.1] {
          let refusal = await #expect(throws: RPCError.self) { try await register(model, with: client) }
          #expect(refusal?.code == .alreadyExists)
          #expect(refusal?.message.contains("as another version") == true)
        }
        #expect(try await register(other.2, with: client).alreadyRegistered == isRestarted)
        let desired = try await rollout.getDesiredVersion(GetDesiredVersionRequest(robot: "a"))
        #expect(["v1", "v2"].contains(desired.version) && desired.manifestSha256.isEmpty)
        let experiment = StartExperimentRequest(baseline: "v3", candidate: "v2", trialsPerArm: 5, seed: 1)
        let refusals = [
          await #expect(throws: RPCError.self) {
            _ = try await rollout.createRelease(CreateReleaseRequest(version: "v1"))
          },
          await #expect(throws: RPCError.self) { _ = try await rollout.startExperiment(experiment) },
        ]
        for refusal in refusals {
          #expect(refusal?.code == .notFound)
          #expect(refusal?.message.contains("Registered: v3") == true)
        }
      }
    }
    try await self.withRollout { rollout, _ in
      let running = try await rollout.listExperiments(ListExperimentsRequest()).experiments
      for experiment in running {
        _ = try await rollout.rollback(RollbackRequest(releaseID: experiment.releaseIDCandidate))
      }
      _ = try await rollout.createRelease(CreateReleaseRequest(version: "v3"))
    }
    let rollout = try Rollout(
      store: RolloutStore(folder: folder), metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try await rollout.tick()
    #expect(vitals.broken.isEmpty, "no robot has it any more")
    // What takes them back there brings the alert back.
    try await rollout.change { state, occasion throws(RolloutError) in
      let release = state.releases.values.first { $0.version == "v3" }
      try state.rollBack(
        release?.id ?? "", reason: "", alertID: "", evidence: "", salt: occasion.salt, now: occasion.now)
    }
    try await rollout.tick()
    #expect(vitals.broken.first?.reason.contains("v1") == true)
  }

  @Test func `a version whose content is gone is registered again with that content only`() async throws {
    _ = try await self.release()
    let same = try self.maker.chunks("v1")
    let other = try self.maker.make("v1", seed: 8)
    try FileManager.default.removeItem(atPath: "\(self.folder.path)/rollout/models")
    try await self.withRollout { _, client in
      let refusal = await #expect(throws: RPCError.self) { try await register(other, with: client) }
      #expect(refusal?.code == .alreadyExists)
      let answer = try await register(same, with: client)
      #expect(answer == RegisterModelResponse(version: "v1"))
    }
  }

  @Test func `a registry that cannot be read for a moment loses no content`() async throws {
    struct Unreadable: Error {}
    _ = try await self.release()
    try await self.spoil("pin", delete: true)
    let rollout = try Rollout(
      store: RolloutStore(folder: "\(self.folder.path)/rollout"), metrics: MetricsRegistry(),
      vitals: Vitals(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try await rollout.pinReleased { _ in throw Unreadable() }
    #expect(await rollout.snapshot.unpinned == ["v1", "v2"])
    try await rollout.pinReleased { _ in String(repeating: "a", count: 64) }
    #expect(await rollout.snapshot.unpinned.isEmpty)
  }

  @Test func `a damaged record is told with its file until somebody took note`() async throws {
    _ = try await self.release()
    try await self.spoil("pin", delete: false)
    let folder = "\(self.folder.path)/rollout"
    let vitals = Vitals()
    let rollout = try Rollout(
      store: RolloutStore(folder: folder), metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let broken = try #require(vitals.broken.first)
    #expect(broken.reason.contains("pin record 'v1'") && broken.reason.contains("\(folder)/rollout.sqlite"))
    try await rollout.tick()
    #expect(vitals.broken.first == broken)
  }
}
