import Foundation
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing
import Trials

@testable import IngestCore

@Suite("ReadTrials", .timeLimit(.minutes(5)))
struct ReadTrialsTests {
  private struct Collector: RPCWriterProtocol {
    let events: Events
    func write(_ element: TrialEvent) async throws { self.events.add(element) }
    func write(contentsOf elements: some Sequence<TrialEvent>) async throws {
      for element in elements { self.events.add(element) }
    }
  }

  private final class Events: Sendable {
    private let state = Mutex<[TrialEvent]>([])
    var all: [TrialEvent] { self.state.withLock { $0 } }
    func add(_ event: TrialEvent) { self.state.withLock { $0.append(event) } }
  }

  @Test func `a damaged trial is named in its place and the others follow`() async throws {
    let folder = try TemporaryFolder()
    let store = try TrialStore(folder: URL(filePath: folder.path))
    for id in ["a", "b", "c"] { _ = try await store.store(TrialRecord(events: Self.trial(id))) }
    let query = TrialQuery(includeQuarantined: true)
    let snapshot = try await store.createSnapshot(query)
    let place = try #require(try await store.catalog.position(robot: "robot-1", trialID: "b"))
    let handle = try FileHandle(forWritingTo: URL(filePath: "\(folder.path)/log/\(place.file)"))
    try handle.seek(toOffset: UInt64(place.offset + place.length - 1))
    try handle.write(contentsOf: [0xFF])
    try handle.close()
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let intake = Intake(store: store, metrics: MetricsRegistry(), vitals: Vitals(), logger: logger) { _ in }
    let endpoint = IngestEndpoint(intake: intake, store: store)
    let events = Events()
    try await withServerContextRPCCancellationHandle { cancellation in
      let context = ServerContext(
        descriptor: IngestService.Method.ReadTrials.descriptor, remotePeer: "test", localPeer: "test",
        cancellation: cancellation)
      try await endpoint.readTrials(
        request: ReadTrialsRequest(snapshotID: snapshot.snapshotID),
        response: RPCWriter(wrapping: Collector(events: events)), context: context)
      let statistics = try await endpoint.getStatistics(request: .init(), context: context)
      #expect(statistics.damagesInAll == 1)
      #expect(statistics.damages.first?.lost == [TrialName(robot: "robot-1", trialID: "b")])
    }
    #expect(events.all.count == 7)
    #expect(Array(events.all[..<3]) == Self.trial("a"))
    #expect(events.all[3].trialID == "b" && events.all[3].event == nil && !events.all[3].missing.isEmpty)
    #expect(Array(events.all[4...]) == Self.trial("c"))
  }

  @Test func `readers who do not read take their places, and no more`() async throws {
    let reads = OpenReads()
    var readers: [Task<Void, any Error>] = []
    let places = AsyncStream<Void>.makeStream()
    func read(_ caller: String) {
      readers.append(
        Task {
          try await reads.during(caller) {
            places.continuation.yield()
            try await Task.sleep(for: .seconds(600))
          }
        })
    }
    var taken = places.stream.makeAsyncIterator()
    for _ in 0..<OpenReads.limitPerCaller {
      read("robot/a")
      await taken.next()
    }
    let refused = await #expect(throws: RPCError.self) { try await reads.during("robot/a") {} }
    #expect(refused?.code == .resourceExhausted)
    // The last quarter is for those who have none.
    for place in OpenReads.limitPerCaller..<12 {
      read("connection \(place / OpenReads.limitPerCaller)")
      await taken.next()
    }
    await #expect(throws: RPCError.self) { try await reads.during("connection 1") {} }
    for caller in 12..<OpenReads.limit {
      read("trainer/\(caller)")
      await taken.next()
      let second = await #expect(throws: RPCError.self) { try await reads.during("trainer/\(caller)") {} }
      #expect(second?.message.contains("for callers that have none") == true)
    }
    await #expect(throws: RPCError.self) { try await reads.during("trainer/b") {} }
    for task in readers {
      task.cancel()
      _ = await task.result
    }
    try await reads.during("robot/a") {}
  }

  /// A reader that never reads: tells of the first event that it is given, and waits.
  private final class Deaf: RPCWriterProtocol {
    let reached = Mutex(false)
    let began = AsyncStream<Void>.makeStream()
    func write(_ element: TrialEvent) async throws { try await self.write(contentsOf: [element]) }
    func write(contentsOf elements: some Sequence<TrialEvent>) async throws {
      self.reached.withLock { $0 = true }
      self.began.continuation.yield()
      try await Task.sleep(for: .seconds(600))
    }
  }

  /// Ingest without sockets, and one trial "t" in it whose steps have pictures.
  private final class Served: Sendable {
    let folder: TemporaryFolder
    let endpoint: IngestEndpoint

    init(pictures: Int, of bytes: Int) async throws {
      self.folder = try TemporaryFolder()
      let store = try TrialStore(folder: URL(filePath: self.folder.path))
      var events = ReadTrialsTests.trial("t")
      let steps = (0..<pictures).map { index in
        var step = TrialStep(index: UInt32(index), action: [0, 0, 0, 0])
        step.image = (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* (index + 3) >> 3) }
        return step
      }
      events[1].event = .steps(TrialSteps(steps: steps))
      _ = try await store.store(TrialRecord(events: events))
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      let intake = Intake(store: store, metrics: MetricsRegistry(), vitals: Vitals(), logger: logger) { _ in }
      self.endpoint = IngestEndpoint(intake: intake, store: store)
    }

    func read(as peer: String, to writer: some RPCWriterProtocol<TrialEvent>) async throws {
      try await withServerContextRPCCancellationHandle { cancellation in
        let context = ServerContext(
          descriptor: IngestService.Method.GetTrial.descriptor, remotePeer: peer, localPeer: "test",
          cancellation: cancellation)
        try await self.endpoint.getTrial(
          request: GetTrialRequest(robot: "robot-1", trialID: "t"), response: RPCWriter(wrapping: writer),
          context: context)
      }
    }
  }

  @Test func `one connection without a key takes four places, and another is read to`() async throws {
    let served = try await Served(pictures: 1, of: 100)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<OpenReads.limitPerCaller {
        let deaf = Deaf()
        group.addTask { try await served.read(as: "connection 1", to: deaf) }
        for await _ in deaf.began.stream { break }
      }
      let fifth = Deaf()
      group.addTask {
        let error = await #expect(throws: RPCError.self) {
          try await served.read(as: "connection 1", to: fifth)
        }
        #expect(error?.code == .resourceExhausted)
        fifth.began.continuation.finish()
      }
      for await _ in fifth.began.stream {
        Issue.record("A fifth read of one connection was let in.")
        break
      }
      let events = Events()
      try await served.read(as: "connection 2", to: Collector(events: events))
      #expect(events.all.count == 3)
      group.cancelAll()
      while await group.nextResult() != nil {}
    }
  }

  @Test func `a read waits in line while its caller's others hold much, others do not`() async throws {
    // 20 MiB, and a caller may have 32.
    let served = try await Served(pictures: 4, of: 5 << 20)
    let (first, second, other) = (Deaf(), Deaf(), Deaf())
    func begin(_ peer: String, _ writer: Deaf) -> Task<Void, any Error> {
      Task { try await served.read(as: peer, to: writer) }
    }
    let reads = [begin("connection 1", first)]
    for await _ in first.began.stream { break }
    let waiting = begin("connection 1", second)
    let stranger = begin("connection 2", other)
    for await _ in other.began.stream { break }
    try await Task.sleep(for: .milliseconds(300))
    second.reached.withLock { #expect(!$0) }
    reads[0].cancel()
    for await _ in second.began.stream { break }
    for task in [waiting, stranger] { task.cancel() }
  }

  private static func trial(_ id: String) -> [TrialEvent] {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: "robot-1", task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0, action: [0, 0, 0, 0])])),
      .end(TrialEnd(outcome: .success, steps: 1, endedUnixNanos: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: "robot-1", trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }
}
