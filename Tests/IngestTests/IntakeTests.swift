import Foundation
import GRPCCore
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing
import Trials

@testable import IngestCore

@Suite("Intake")
struct IntakeTests {
  private let folder: TemporaryFolder
  private let store: TrialStore
  private let told = Told()

  init() throws {
    self.folder = try TemporaryFolder()
    self.store = try TrialStore(folder: URL(filePath: self.folder.path))
  }

  private func intake(_ limits: TrialAssembler.Limits = .init()) -> Intake {
    self.told.intake(self.store, limits)
  }

  private func trial(_ id: String = "t-1") -> [TrialEvent] {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: "robot-1", task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0, action: [0, 0, 0, 0])])),
      .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: "robot-1", trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  private func upload(_ events: [TrialEvent], to intake: Intake) async throws -> TrialAcknowledgement {
    try await intake.upload(
      AsyncStream { continuation in
        for event in events { continuation.yield(event) }
        continuation.finish()
      })
  }

  @Test func `a stream is stored and told once, and again as a duplicate`() async throws {
    let intake = self.intake()
    for _ in 0..<2 {
      for event in self.trial() {
        if let trial = await intake.take(event, bytes: event.serializedSize) { await intake.settle(trial) }
      }
    }
    #expect(self.told.states == [.quarantined, .duplicate])
    #expect(self.told.outcomes == 1)
    #expect(self.store.counter("redelivered") == 1)
  }

  @Test func `an upload ends what its stream left open`() async throws {
    let intake = self.intake()
    _ = await intake.take(self.trial()[0], bytes: 10)
    #expect(await intake.incompleteTrials == 1)
    #expect(try await self.upload(self.trial().reversed(), to: intake).state == .quarantined)
    #expect(await intake.incompleteTrials == 0)
    await intake.expire()
    #expect(self.told.states == [.quarantined], "nothing is asked for any more")
  }

  @Test func `an upload without all events stores nothing and says what is missing`() async throws {
    let intake = self.intake()
    let answer = try await self.upload([self.trial()[0], self.trial()[2]], to: intake)
    #expect(answer.state == .incomplete)
    #expect(answer.missing == [EventRange(first: 1, last: 1)])
    #expect(try await self.store.catalog.totals().stored == 0)
    #expect(self.told.states.isEmpty)
  }

  @Test func `an upload that is no trial of one robot is an error of its caller`() async throws {
    let intake = self.intake()
    for events in [[], [self.trial("a")[0], self.trial("b")[1]]] {
      let error = await #expect(throws: RPCError.self) { try await self.upload(events, to: intake) }
      #expect(error?.code == .invalidArgument)
    }
  }

  @Test func `a trial above the limit is refused, and its robot is told`() async throws {
    var limits = TrialAssembler.Limits()
    limits.trialBytes = 50
    let intake = self.intake(limits)
    #expect(try await self.upload(self.trial(), to: intake).state == .refused)
    #expect(self.told.states == [.refused])
    #expect(self.store.counter("refused") == 1)
  }

  @Test func `refused events wait for no catalog`() async throws {
    let writes = Mutex(0)
    let folder = try TemporaryFolder()
    let store = try TrialStore(
      folder: folder.path, disk: SystemDisk(), runtime: .system,
      catalog: try TrialCatalog(path: nil) { writes.withLock { $0 += 1 } })
    let before = writes.withLock { $0 }
    var limits = TrialAssembler.Limits()
    limits.trialBytes = 50
    let intake = self.told.intake(store, limits)
    for index in 0..<10 { #expect(await intake.take(self.trial("t-\(index)")[0], bytes: 1_000) == nil) }
    #expect(self.told.states == Array(repeating: .refused, count: 10))
    #expect(writes.withLock { $0 } == before)
    await intake.expire()
    #expect(writes.withLock { $0 } == before + 1, "all of them at once")
    #expect(store.counter("refused") == 10)
  }
}
