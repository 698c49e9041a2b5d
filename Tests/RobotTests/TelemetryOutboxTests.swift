import Schemas
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

@Suite struct TelemetryOutboxTests {
  private typealias Outbox = TelemetryOutbox<TelemetryEvent>
  private struct NoLink: Error {}

  private func send(_ range: Range<Int>, to outbox: Outbox) {
    for index in range { outbox.send(TelemetryEvent(event: .trial(TrialFinished(trialID: "t\(index)")))) }
  }

  /// What a link took.
  private final class Taken: Sendable {
    private let list = Mutex<[String]>([])
    var ids: [String] { self.list.withLock { $0 } }

    func take(_ event: TelemetryEvent) {
      self.list.withLock { $0.append(TelemetryOutboxTests.id(event)) }
    }
  }

  private static func id(_ event: TelemetryEvent) -> String {
    if case .trial(let trial) = event.event { trial.trialID } else { "" }
  }

  @Test func `events outlive a link that was given up, each exactly once`() async throws {
    let outbox = Outbox()
    let taken = Taken()
    for round in 0..<3 {
      let link = Task { await outbox.drain { taken.take($0[0]) } }
      self.send(round * 10..<round * 10 + 5, to: outbox)
      try await eventually("they are taken") { taken.ids.count == round * 10 + 5 }
      link.cancel()
      await link.value
      // Between two links.
      self.send(round * 10 + 5..<round * 10 + 10, to: outbox)
      #expect(outbox.waiting.count == 5)
    }
    let last = Task { await outbox.drain { taken.take($0[0]) } }
    try await eventually("all are taken") { outbox.waiting.isEmpty }
    last.cancel()
    await last.value
    #expect(taken.ids == (0..<30).map { "t\($0)" })
    #expect(outbox.dropped == 0)
  }

  @Test func `an event that a link does not take stays`() async throws {
    let outbox = Outbox()
    let tries = Taken()
    self.send(0..<1, to: outbox)
    let link = Task {
      await outbox.drain { events in
        tries.take(events[0])
        guard tries.ids.count > 2 else { throw NoLink() }
      }
    }
    try await eventually("it is taken") { outbox.waiting.isEmpty }
    link.cancel()
    await link.value
    #expect(tries.ids == ["t0", "t0", "t0"])
  }

  @Test func `where too many wait the oldest goes, and is counted`() {
    let outbox = Outbox()
    self.send(0..<Outbox.bound + 7, to: outbox)
    #expect(outbox.waiting.count == Outbox.bound)
    #expect(outbox.waiting.first.map(Self.id) == "t7")
    #expect(outbox.dropped == 7)
  }

  @Test func `an event that was dropped while it was on its way takes no other with it`() async throws {
    let outbox = Outbox()
    self.send(0..<1, to: outbox)
    let seen = Taken()
    let link = Task {
      await outbox.drain { events in
        seen.take(events[0])
        // While the first one is on its way, so many come that it is dropped.
        if seen.ids.count == 1 { self.send(1..<Outbox.bound + 1, to: outbox) }
      }
    }
    try await eventually("all are taken") { outbox.waiting.isEmpty }
    link.cancel()
    await link.value
    #expect(seen.ids == (0...Outbox.bound).map { "t\($0)" })
    #expect(outbox.dropped == 1)
  }

  @Test func `limits that held make room for what somebody must hear of`() throws {
    let folder = try TemporaryFolder()
    let robot = try makeRobot(folder)
    robot.report(safety: "orders-lost", trialID: "", detail: "orders.damaged-1")
    for _ in 0..<300 { robot.report(safety: "action-clipped", trialID: "t1", detail: "") }
    let waiting = robot.safety.waiting
    #expect(waiting.first?.kind == "orders-lost")
    #expect(waiting.map(\.number) == [1] + Array(UInt64(301 - 254)...301))
    #expect(robot.safety.dropped == 45)
    for _ in 0..<300 { robot.report(safety: "stop", trialID: "", detail: "") }
    #expect(robot.safety.waiting.map(\.number) == Array(UInt64(601 - 255)...601), "then the oldest goes")
  }

  @Test func `events that make room while one before them is on its way take no other with them`()
    async throws
  {
    let folder = try TemporaryFolder()
    let robot = try makeRobot(folder)
    robot.report(safety: "stop", trialID: "", detail: "")
    robot.report(safety: "action-clipped", trialID: "t1", detail: "")
    let seen = Mutex<[UInt64]>([])
    let link = Task {
      await robot.safety.drain(atMost: 2) { events in
        let isFirst = seen.withLock { seen in
          defer { seen += events.map(\.number) }
          return seen.isEmpty
        }
        guard isFirst else { return }
        // While the first two are on their way, so many come that the second and the third make room.
        for _ in 0..<256 { robot.report(safety: "action-clipped", trialID: "t1", detail: "") }
      }
    }
    try await eventually("all are taken") { robot.safety.waiting.isEmpty }
    link.cancel()
    await link.value
    #expect(seen.withLock { $0 } == [1, 2] + Array(4...258))
  }
}
