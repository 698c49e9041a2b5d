import Foundation
import Schemas
import Storage
import Testing

@testable import Trials

@Suite("TrialStore")
struct TrialStoreTests {
  @Test func `a trial is stored once, whoever sends it how often`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      let trial = try SampleTrial.make()
      let verdicts = try await withThrowingTaskGroup(of: TrialStore.Verdict.self) { group in
        for _ in 0..<8 { group.addTask { try await store.store(trial) } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(verdicts.count { $0 == .stored } == 1)
      #expect(verdicts.count { $0 == .duplicate } == 7)
      let usage = try await store.usage()
      #expect(usage.duplicates == 0)
      #expect(try await store.trial(TrialName(robot: "robot-1", trialID: "t-1")) == trial)
    }
  }

  @Test func `a bad trial is kept but trains nobody`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      let bad = try SampleTrial.make(id: "bad", change: { $0.action[0] = .nan })
      #expect(try await store.store(bad) == .quarantined([.notFinite]))
      #expect(try await store.store(try SampleTrial.make(id: "good")) == .stored)
      let trainable = TrialQuery(includeQuarantined: true, trainableOnly: true)
      #expect(try await store.createSnapshot(trainable).trials == 1)
      let totals = try await store.catalog.totals()
      #expect(totals.stored == 1)
      #expect(totals.quarantined == ["not-finite": 1])
    }
  }

  /// The disk's thread lets the first store go a moment after its last answer.
  private static func reopen(_ folder: URL) async throws -> TrialStore {
    for _ in 0..<1_000 {
      do { return try TrialStore(folder: folder) } catch let error as StorageError {
        guard error.code == .inUse else { throw error }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    return try TrialStore(folder: folder)
  }

  @Test func `one process owns a store`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      let error = #expect(throws: StorageError.self) { try TrialStore(folder: folder) }
      #expect(error?.code == .inUse)
      withExtendedLifetime(store) {}
    }
  }

  @Test func `a lost catalog is made anew from the log`() async throws {
    try await withTemporaryFolder { folder in
      let ids = (0..<5).map { "t-\($0)" }
      var before: [TrialSummary] = []
      do {
        let store = try TrialStore(folder: folder)
        for id in ids {
          _ = try await store.store(try SampleTrial.make(id: id, outcome: id == "t-3" ? .failure : .success))
        }
        before = try await store.catalog.trials(.init(), limit: 100, after: nil).trials
      }
      for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        try? FileManager.default.removeItem(at: folder.appending(path: name))
      }
      let store = try await Self.reopen(folder)
      #expect(try await store.catalog.trials(.init(), limit: 100, after: nil).trials == before)
      #expect(try await store.store(try SampleTrial.make(id: "t-2")) == .duplicate)
    }
  }

  @Test func `snapshots are named by what is in them`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      for id in ["b", "a", "c"] {
        _ = try await store.store(try SampleTrial.make(id: id, task: id == "c" ? "push" : "reach"))
      }
      let first = try await store.createSnapshot(TrialQuery(tasks: ["reach"]))
      let second = try await store.createSnapshot(TrialQuery(tasks: ["reach"], trainableOnly: true))
      #expect(first.snapshotID == second.snapshotID)
      #expect(first.trials == 2)
      #expect(first.trialsPerTask == ["reach": 2])
      _ = try await store.store(try SampleTrial.make(id: "d"))
      #expect(try await store.trials(ofSnapshot: first.snapshotID).map(\.trialID) == ["a", "b"])
      for unknown in ["nothing", "0123456789abcdef", "../damage/../../x"] {
        let error = await #expect(throws: TrialsError.self) { try await store.trials(ofSnapshot: unknown) }
        #expect(error?.code == .notFound)
      }
    }
  }

  @Test func `pages hold every trial once`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      for index in 0..<7 { _ = try await store.store(try SampleTrial.make(id: "t-\(index)", steps: 2)) }
      var seen: [String] = []
      var token: String?
      repeat {
        let page = try await store.catalog.trials(.init(), limit: 3, after: token)
        seen += page.trials.compactMap { $0.header?.trialID }
        token = page.token
      } while token != nil
      #expect(seen == (0..<7).map { "t-\($0)" })
      await #expect(throws: TrialsError.self) {
        try await store.catalog.trials(.init(), limit: 3, after: "x")
      }
    }
  }

  @Test func `the latest comes first where asked for, and numbers say what came behind`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      for index in 0..<7 { _ = try await store.store(try SampleTrial.make(id: "t-\(index)", steps: 2)) }
      var seen: [TrialSummary] = []
      var token: String?
      repeat {
        let page = try await store.catalog.trials(.init(), limit: 3, after: token, newestFirst: true)
        seen += page.trials
        token = page.token
      } while token != nil
      #expect(seen.compactMap { $0.header?.trialID } == (0..<7).reversed().map { "t-\($0)" })
      #expect(seen.map(\.number) == seen.map(\.number).sorted(by: >))
      let behind = TrialQuery(afterNumber: seen[2].number)
      #expect(
        try await store.catalog.trials(behind, limit: 10, after: nil).trials.compactMap { $0.header?.trialID }
          == ["t-5", "t-6"])
    }
  }

  @Test func `outcomes are counted by cell`() async throws {
    try await withTemporaryFolder { folder in
      let store = try TrialStore(folder: folder)
      for (id, outcome) in [("a", Outcome.success), ("b", .failure), ("c", .success), ("d", .aborted)] {
        _ = try await store.store(try SampleTrial.make(id: id, outcome: outcome))
      }
      let counts = try await store.catalog.outcomes(.init())
      #expect(counts.map(\.successes) == [2])
      #expect(counts.map(\.trials) == [3])
      #expect(counts.map(\.aborted) == [1])
    }
  }

  @Test func `a full disk stores nothing, loses nothing, and is said`() async throws {
    try await withTemporaryFolder { folder in
      try #require(
        Shell.run("/bin/mount", ["-t", "tmpfs", "-o", "size=600k", "tmpfs", folder.path]) == 0,
        "mounting a tmpfs needs root")
      defer { _ = Shell.run("/bin/umount", ["-l", folder.path]) }
      let log = try TrialLog(folder: folder.appending(path: "log").path)
      var stored: [(LogPosition, TrialRecord)] = []
      var failure: TrialsError?
      for index in 0..<2_000 where failure == nil {
        let trial = try SampleTrial.make(id: "t-\(index)", steps: 2)
        do {
          stored.append((try log.append([trial], storedUnixNanos: 1)[0], trial))
        } catch { failure = error as? TrialsError }
      }
      #expect(failure?.code == .diskFull)
      #expect(!stored.isEmpty)
      for (position, trial) in stored { #expect(try log.trial(at: position) == trial) }
      #expect(try log.contents(of: log.currentFile).entries.count == stored.count)
    }
  }
}

enum Shell {
  static func run(_ path: String, _ arguments: [String]) -> Int32 {
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    do { try process.run() } catch { return -1 }
    process.waitUntilExit()
    return process.terminationStatus
  }
}
