import Foundation
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing
import Trials

/// `fleet trials` over a running ingest.
@Suite("fleet trials", .timeLimit(.minutes(2)))
struct TrialsListingTests {
  private static let outcomes: [Outcome] = [.success, .failure, .aborted]
  private static let count = 12

  private struct Page: Decodable {
    struct Row: Decodable {
      var robot, trial, task, model, outcome: String
      var storedUnixNanos: Int64
    }
    var trials: [Row]
    var next: String
  }

  private let folder: TemporaryFolder
  private let ingest: ServiceUnderTest

  /// Trials 0 to 11, by turns: two tasks and robots, three outcomes, four versions. The first half was stored three days ago.
  init() async throws {
    self.folder = try TemporaryFolder()
    let settings = [
      "ingest.data": "\(self.folder.path)/ingest", "ingest.rpc": "ipc://\(self.folder.path)/rpc",
      "ingest.trials": "ipc://\(self.folder.path)/trials",
      "ingest.publications": "ipc://\(self.folder.path)/publications", "log.level": "error",
    ]
    try await Self.fill("\(self.folder.path)/ingest")
    try #"{"ingest": {"rpc": "ipc://\#(self.folder.path)/rpc"}}"#.write(
      toFile: "\(self.folder.path)/config.json", atomically: true, encoding: .utf8)
    self.ingest = try await ServiceUnderTest("ingest", settings: settings)
  }

  private static func fill(_ folder: String) async throws {
    let now = UnixTime.now
    let ago = Mutex<Int64>(0)
    var runtime = Runtime.system
    runtime.unixNanos = { now - ago.withLock { $0 } }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let store = try TrialStore(
      folder: folder, disk: SystemDisk(), runtime: runtime,
      catalog: try TrialCatalog(path: "\(folder)/catalog.sqlite"))
    for index in 0..<Self.count {
      let seconds: Int64 = index < Self.count / 2 ? 3 * 86_400 : 60
      ago.withLock { $0 = seconds * 1_000_000_000 }
      _ = try await store.store(Self.trial(index))
    }
    await store.flushCounters()
  }

  private static func trial(_ index: Int) -> TrialRecord {
    let (robot, id) = ("robot-\(index % 2)", "t-\(index)")
    let header = TrialHeader(
      trialID: id, robot: robot, task: index % 2 == 0 ? "reach" : "push", modelVersion: "v\(index % 4)")
    let parts: [TrialEvent.Event] = [
      .header(header), .steps(TrialSteps(steps: [TrialStep(index: 0)])),
      .end(TrialEnd(outcome: Self.outcomes[index % 3], steps: 1)),
    ]
    return TrialRecord(
      events: parts.enumerated().map {
        TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
      })
  }

  private func list(_ words: [String]) async throws -> Page {
    let result = try await Program.run(
      Program.built("fleet"), ["trials", "--json", "--data", self.folder.path] + words)
    try #require(result.status == 0, "\(result.errors)")
    return try JSONDecoder().decode(Page.self, from: Data(result.output.utf8))
  }

  @Test func `each filter lets through what it names, newest first, and all of them together`() async throws {
    let filters: [([String], (Int) -> Bool)] = [
      ([], { _ in true }), (["--task", "push"], { $0 % 2 == 1 }), (["--robot", "robot-0"], { $0 % 2 == 0 }),
      (["--outcome", "success"], { $0 % 3 == 0 }), (["--outcome", "failure"], { $0 % 3 == 1 }),
      (["--outcome", "aborted"], { $0 % 3 == 2 }), (["--version", "v2"], { $0 % 4 == 2 }),
      (["--since", "2d"], { $0 >= 6 }), (["--since", "7d"], { _ in true }),
      (["--since", "30s"], { _ in false }), (["--task", "none"], { _ in false }),
      (["--task", "reach", "--outcome", "success", "--version", "v2", "--since", "2h"], { $0 == 6 }),
    ]
    for (words, isWanted) in filters {
      let page = try await self.list(words)
      let wanted = (0..<Self.count).reversed().filter(isWanted)
      #expect(page.trials.map(\.trial) == wanted.map { "t-\($0)" }, "\(words)")
      #expect(page.next.isEmpty)
    }
    let first = try #require(try await self.list(["--robot", "robot-1"]).trials.first)
    #expect([first.robot, first.task, first.model, first.outcome] == ["robot-1", "push", "v3", "aborted"])
  }

  @Test(arguments: [[], ["--task", "reach"]]) func `pages follow each other without a hole`(
    words: [String]
  ) async throws {
    var ids: [String] = []
    var sizes: [Int] = []
    var next = ""
    repeat {
      let page = try await self.list(words + ["--limit", "5"] + (next.isEmpty ? [] : ["--after", next]))
      ids += page.trials.map(\.trial)
      sizes.append(page.trials.count)
      next = page.next
    } while !next.isEmpty
    let wanted = (0..<Self.count).reversed().filter { words.isEmpty || $0 % 2 == 0 }
    #expect(ids == wanted.map { "t-\($0)" })
    #expect(sizes == (words.isEmpty ? [5, 5, 2] : [5, 1]))
  }

  @Test func `a person is told how to go on`() async throws {
    let result = try await Program.run(
      Program.built("fleet"), ["trials", "--limit", "5", "--data", self.folder.path])
    #expect(result.status == 0, "\(result.errors)")
    let next = try await self.list(["--limit", "5"]).next
    #expect(result.errors.contains("--after \(next)"), "\(result.errors)")
    #expect(result.output.contains("t-11") && !result.output.contains("t-6"))
  }
}
