import Foundation
import GRPCCore
import Schemas
import TestSupport
import Testing
import Trials

@testable import IngestCore

/// Events that can be decoded as they come and not as they are stored. What bytes may unpack to grows with their number, and a
/// field that comes twice takes bytes once more on its way only.
@Suite("Intake, unreadable events")
struct UnreadableEventTests {
  private let folder: TemporaryFolder
  private let store: TrialStore
  private let told = Told()

  init() throws {
    self.folder = try TemporaryFolder()
    self.store = try TrialStore(folder: URL(filePath: self.folder.path))
  }

  private var intake: Intake { self.told.intake(self.store) }

  /// Many empty steps, and an image that lets them be read as long as it is there.
  private static func steps(image: Int) -> TrialEvent.Event {
    var steps = [TrialStep](repeating: TrialStep(), count: 20_000)
    steps[0].image = [UInt8](repeating: 7, count: image)
    return .steps(TrialSteps(steps: steps))
  }

  private static func trial(_ id: String, robot: String, _ middle: TrialEvent.Event) -> [TrialEvent] {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: robot, task: "reach")), middle,
      .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
    }
  }

  /// An event as a wrong sender sends it.
  private static func padded(_ event: TrialEvent) -> [UInt8] {
    TrialEvent(robot: String(repeating: "x", count: 1 << 20)).serializedBytes() + event.serializedBytes()
  }

  private static func upload(_ events: [TrialEvent], to intake: Intake) async throws -> TrialAcknowledgement {
    try await intake.upload(
      AsyncStream { continuation in
        for event in events { continuation.yield(event) }
        continuation.finish()
      })
  }

  @Test func `a trial that could not be read again is refused, whichever way it comes`() async throws {
    let intake = self.intake
    let events = Self.trial("t-1", robot: "wrong", Self.steps(image: 0))
    let came = try events.map { try TrialEvent(serializedBytes: Self.padded($0)) }
    try #require(came == events)
    #expect(throws: SchemaError.self) { try TrialEvent(serializedBytes: events[1].serializedBytes()) }
    let answer = try await Self.upload(came, to: intake)
    #expect(answer.state == .refused)
    #expect(answer.reasons.count == 1)
    for event in came {
      if let trial = await intake.take(event, bytes: Self.padded(event).count) { await intake.settle(trial) }
    }
    #expect(self.told.states == [.refused, .refused])
    #expect(self.store.counter("refused") == 2)
    #expect(
      try await self.store.catalog.trials(.init(includeQuarantined: true), limit: 10, after: nil).trials == []
    )
    #expect(await self.store.damages().count == 0)
    #expect(await intake.held == .init())
  }

  /// A reader may ask for trials without their images.
  @Test func `a trial that only its images let be read is refused`() async throws {
    let events = Self.trial("t-1", robot: "wrong", Self.steps(image: 1 << 20))
    for event in events { #expect(try TrialEvent(serializedBytes: event.serializedBytes()) == event) }
    #expect(try await Self.upload(events, to: self.intake).state == .refused)
  }

  @Test func `what is refused costs others nothing`() async throws {
    let intake = self.intake
    let good = TrialEvent.Event.steps(TrialSteps(steps: [TrialStep(index: 0, action: [0, 0, 0, 0])]))
    let states = try await withThrowingTaskGroup(of: (String, TrialState).self) { group in
      for number in 0..<40 {
        let robot = number % 2 == 0 ? "wrong" : "robot-\(number)"
        let events = Self.trial("t-\(number)", robot: robot, number % 2 == 0 ? Self.steps(image: 0) : good)
        group.addTask { (robot, try await Self.upload(events, to: intake).state) }
      }
      return try await group.reduce(into: [(String, TrialState)]()) { $0.append($1) }
    }
    for (robot, state) in states { #expect(state == (robot == "wrong" ? .refused : .quarantined)) }
  }
}
