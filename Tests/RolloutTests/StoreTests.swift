import Foundation
import Schemas
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
}
