import Foundation
import Schemas
import Storage
import Synchronization
import Testing

@testable import Trials

/// Trials whose header and end are larger than ingest takes, as an earlier version stored them.
@Suite("TrialCatalog, large headers")
struct LargeHeaderTests {
  /// What a message of the bus may have is 32 MiB.
  private static let message = 32 << 20

  private static func row(
    _ index: Int, label: Int = 0, labels: Int = 0, task: String = "reach", failureCode: Int = 0
  ) -> TrialRow {
    let id = "t-\(index)"
    var header = TrialHeader(trialID: id, robot: "robot-1", task: task)
    if label > 0 { header.labels["note"] = String(repeating: "x", count: label) }
    for number in 0..<labels { header.labels["\(number)"] = "" }
    let end = TrialEnd(outcome: .failure, failureCode: String(repeating: "x", count: failureCode), steps: 3)
    let events: [TrialEvent.Event] = [.header(header), .end(end)]
    let trial = TrialRecord(
      events: events.enumerated().map {
        TrialEvent(robot: "robot-1", trialID: id, number: UInt32($0.offset), event: $0.element)
      })
    let position = LogPosition(file: "f", offset: index * 100, length: 100)
    return TrialRow(trial, position: position, reasons: [], storedUnixNanos: Int64(index))
  }

  /// Pages through a catalog and holds each against what a message may have.
  private static func ids(_ catalog: TrialCatalog, newestFirst: Bool) async throws -> [String] {
    var ids: [String] = []
    var token: String?
    repeat {
      let page = try await catalog.trials(.init(), limit: 1_000, after: token, newestFirst: newestFirst)
      let answer = ListTrialsResponse(trials: page.trials, nextPageToken: page.token ?? "")
      try #require(answer.serializedSize < Self.message)
      try #require(try ListTrialsResponse(serializedBytes: answer.serializedBytes()) == answer)
      ids += page.trials.compactMap { $0.header?.trialID }
      token = page.token
    } while token != nil
    return ids
  }

  @Test(arguments: [false, true]) func `any rows can be paged through`(newestFirst: Bool) async throws {
    let catalog = try TrialCatalog(path: nil)
    // The largest that are taken, and what no version takes any more.
    let rows =
      (0..<400).map { Self.row($0, label: 60_000, failureCode: 60_000) }
      + (400..<420).map { Self.row($0, label: 4 << 20) }
      + [
        Self.row(420, failureCode: 40 << 20), Self.row(421, task: String(repeating: "é", count: 20 << 20)),
        Self.row(422),
      ]
    try catalog.add(rows, files: [])
    let ids = try await Self.ids(catalog, newestFirst: newestFirst)
    #expect(ids == (newestFirst ? rows.reversed() : rows).map(\.trialID))
    #expect(catalog.damage == nil)
  }

  /// Each of them can be read alone, and takes far more memory than bytes.
  @Test(arguments: [false, true]) func `headers of many labels can be paged through`(newestFirst: Bool)
    async throws
  {
    let catalog = try TrialCatalog(path: nil)
    let rows = (0..<40).map { Self.row($0, labels: 5_000) } + [Self.row(40)]
    try catalog.add(rows, files: [])
    let ids = try await Self.ids(catalog, newestFirst: newestFirst)
    #expect(ids == (newestFirst ? rows.reversed() : rows).map(\.trialID))
  }

  @Test func `what is too large to list says what its columns say`() async throws {
    let catalog = try TrialCatalog(path: nil)
    try catalog.add([Self.row(0, label: 1 << 20), Self.row(1, label: 1_000)], files: [])
    let trials = try await catalog.trials(.init(), limit: 10, after: nil).trials
    #expect(trials.map { $0.header?.task } == ["reach", "reach"])
    #expect(trials.map { $0.header?.labels.count } == [0, 1])
    #expect(trials.map { $0.end?.outcome } == [.failure, .failure])
    #expect(trials.map(\.reasons) == [["too large to list"], []])
  }

  /// What bytes may unpack to grows with their number: an end may be read in a larger event, and not by itself.
  @Test func `an end that cannot be read by itself is no damage of the catalog`() async throws {
    try await withTemporaryFolder { folder in
      let told = StoreRecoveryTests.Told()
      let store = try await StoreRecoveryTests.reopen(folder, told)
      var trial = try StoreRecoveryTests.trial(0)
      let padding = TrialEnd(failureCode: String(repeating: "x", count: 2 << 20)).serializedBytes()
      let unknown = (0..<30_000).flatMap { _ in [0x30, 0x01] as [UInt8] }
      let short = TrialEnd(outcome: .success, failureCode: "x", steps: 3).serializedBytes()
      let end = try TrialEnd(serializedBytes: padding + unknown + short)
      try #require(end.serializedSize <= TrialLimits.summaryBytes)
      #expect(throws: SchemaError.self) { try TrialEnd(serializedBytes: end.serializedBytes()) }
      trial.events[trial.events.count - 1].event = .end(end)
      // A field that nobody knows, of 2 MiB: the event is larger than what it holds.
      let large: [UInt8] = [0x9A, 0x06, 0x80, 0x80, 0x80, 0x01] + [UInt8](repeating: 0, count: 2 << 20)
      trial.events[trial.events.count - 1] = try TrialEvent(
        serializedBytes: trial.events[trial.events.count - 1].serializedBytes() + large)
      #expect(try await store.store(trial) == .stored)
      for _ in 0..<2 {
        #expect(try await StoreRecoveryTests.ids(store) == ["t-0"])
        await store.flushCounters()
      }
      #expect(told.damagedCatalogs == 0)
    }
  }

  @Test func `what waits for the catalog is bounded by its bytes`() async throws {
    try await withTemporaryFolder { folder in
      var configuration = TrialStore.Configuration()
      configuration.maximumUncataloguedBytes = 200_000
      let full = Mutex(false)
      let store = try TrialStore(
        folder: folder.path, configuration: configuration, disk: SystemDisk(), runtime: .system,
        catalog: try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path) {
          if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
        })
      full.withLock { $0 = true }
      var stored = 0
      let refused = await #expect(throws: TrialsError.self) {
        while stored < 10 {
          var trial = try StoreRecoveryTests.trial(stored)
          if case .header(var header) = trial.events[0].event {
            header.labels["note"] = String(repeating: "x", count: 50_000)
            trial.events[0].event = .header(header)
          }
          _ = try await store.store(trial)
          stored += 1
        }
      }
      #expect(refused?.code == .busy)
      #expect(stored == 4)
    }
  }
}
