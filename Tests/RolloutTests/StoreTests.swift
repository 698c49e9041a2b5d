import Foundation
import Schemas
import Storage
import TestSupport
import Testing

@testable import RolloutCore

@Suite("RolloutStore")
struct StoreTests {
  @Test func `what was saved is loaded, changes only`() throws {
    let folder = try TemporaryFolder()
    var state = try ReleaseTests.fleet()
    do {
      let store = try RolloutStore(folder: folder.path)
      #expect(try store.load() == RolloutState())
      try store.save(state, replacing: RolloutState())
      let saved = state
      let id = try ReleaseTests.release(&state, "v1")
      try state.pin("v1", to: "aa")
      try state.rollBack(id, reason: "r", alertID: "a", evidence: "e", salt: "s", now: 4)
      _ = try state.startExperiment(
        StartExperimentRequest(baseline: "v1", candidate: "v2", trialsPerArm: 5), seed: 1, salt: "s", now: 5)
      try store.save(state, replacing: saved)
    }
    // A new process has heard of nobody yet.
    for name in state.robots.keys { state.robots[name]?.heardUptimeNanos = 0 }
    #expect(try RolloutStore(folder: folder.path).load() == state)
  }

  @Test func `one process owns the folder`() throws {
    let folder = try TemporaryFolder()
    let first = try RolloutStore(folder: folder.path)
    #expect(throws: RolloutError.self) { try RolloutStore(folder: folder.path) }
    withExtendedLifetime(first) {}
  }

  @Test func `a damaged database is told, not overwritten`() throws {
    let folder = try TemporaryFolder()
    let garbage = Data(repeating: 7, count: 8_192)
    try garbage.write(to: URL(filePath: "\(folder.path)/rollout.sqlite"))
    #expect(throws: RolloutError.self) { try RolloutStore(folder: folder.path) }
    #expect(try Data(contentsOf: URL(filePath: "\(folder.path)/rollout.sqlite")) == garbage)
  }

  /// Stores a state, then writes something else over some of its records.
  private func damaged(_ records: [(table: String, id: String)]) throws -> (TemporaryFolder, RolloutState) {
    let folder = try TemporaryFolder()
    var state = try ReleaseTests.fleet()
    _ = try ReleaseTests.release(&state, "v1")
    try ReleaseTests.obey(&state, now: 2)
    _ = try RolloutStore(folder: folder.path).save(state, replacing: RolloutState())
    let store = try RecordStore(
      folder: folder.path, name: "rollout", tables: ["robot", "release", "experiment", "fleet", "pin"])
    var changes = RecordStore.Changes()
    for record in records { changes.put([UInt8](repeating: 0xFF, count: 2), id: record.id, in: record.table) }
    try store.apply(changes)
    return (folder, state)
  }

  @Test func `a damaged record costs itself, and its robot keeps what it has`() throws {
    let name = try #require(ReleaseTests.fleet().robots.keys.min())
    let (folder, before) = try self.damaged([("robot", name)])
    let store = try RolloutStore(folder: folder.path)
    var state = try store.load()
    #expect(Set(state.robots.keys) == Set(before.robots.keys).subtracting([name]))
    #expect(state.releases == before.releases)
    #expect(try store.damages().count == 1 && store.damages()[0].contains("'\(name)'"))
    let desired = try state.report(
      ReportVersionRequest(robot: name, version: "v1", following: before.desired(name)), now: 20)
    #expect(desired.version == "v1")
  }

  @Test func `where the fleet's own record is damaged nobody loses a model`() throws {
    let (folder, before) = try self.damaged([("fleet", "fleet")])
    for _ in 0..<2 {
      var state = try RolloutStore(folder: folder.path).load()
      #expect(state.robots.isEmpty && state.releases == before.releases)
      for name in before.robots.keys {
        let desired = try state.report(
          ReportVersionRequest(robot: name, version: "v1", following: before.desired(name)), now: 20)
        #expect(desired.version == "v1")
      }
    }
  }
}
