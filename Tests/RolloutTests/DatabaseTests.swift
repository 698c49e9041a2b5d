import Logging
import Schemas
import ServiceKit
import Synchronization
import TestSupport
import Testing

@testable import RolloutCore

@Suite("Rollout whose database fails")
struct DatabaseTests {
  /// Keeps nothing, and can be told to fail; as the real one, it writes nothing where only times differ.
  private final class Store: RolloutStoring {
    private let isFull = Mutex(false)

    func set(full: Bool) { self.isFull.withLock { $0 = full } }

    private func write() throws(RolloutError) -> Bool {
      if self.isFull.withLock({ $0 }) { throw RolloutError(.storage, "The test's disk is full.") }
      return true
    }

    func damages() -> [String] { [] }
    func load() throws(RolloutError) -> RolloutState { RolloutState() }
    func save(_ new: RolloutState, replacing old: RolloutState) throws(RolloutError) -> Bool {
      guard new.robots.mapValues(\.reported) != old.robots.mapValues(\.reported) else { return false }
      return try self.write()
    }
    func save(times robots: [RobotRecord]) throws(RolloutError) -> Bool { try self.write() }
  }

  @Test func `it says that it cannot work until its state can be written again`() async throws {
    let store = Store()
    let vitals = Vitals()
    let rollout = try Rollout(
      store: store, metrics: MetricsRegistry(), vitals: vitals,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    _ = try await rollout.report(ReportVersionRequest(robot: "a"))
    #expect(vitals.broken.isEmpty)
    let broken = [BrokenPart(part: "database", reason: "The test's disk is full.")]
    store.set(full: true)
    await #expect(throws: RolloutError.self) {
      try await rollout.report(ReportVersionRequest(robot: "b"))
    }
    #expect(vitals.broken == broken)
    // Where nothing had to be written, nobody knows whether it could be.
    _ = try await rollout.report(ReportVersionRequest(robot: "a"))
    #expect(vitals.broken == broken)
    store.set(full: false)
    _ = try await rollout.report(ReportVersionRequest(robot: "b"))
    #expect(vitals.broken.isEmpty)
    store.set(full: true)
    await #expect(throws: RolloutError.self) { try await rollout.storeTimes() }
    #expect(vitals.broken == broken)
    store.set(full: false)
    try await rollout.storeTimes()
    #expect(vitals.broken.isEmpty)
  }
}
