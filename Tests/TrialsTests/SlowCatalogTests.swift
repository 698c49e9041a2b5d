import Foundation
import Schemas
import Storage
import Synchronization
import Testing

@testable import Trials

/// A store whose catalog takes long to write.
@Suite("TrialStore, slow catalog")
struct SlowCatalogTests {
  private typealias Recovery = StoreRecoveryTests

  /// Holds up each change of a catalog while it is told so.
  private final class Gate: Sendable {
    private let state = Mutex((isClosed: false, waiting: 0, wasLate: false))
    private let goOn = DispatchSemaphore(value: 0)

    func pass() {
      let waits = self.state.withLock { state in
        if state.isClosed { state.waiting += 1 }
        return state.isClosed
      }
      // Far longer than any of this takes; without an end the test had none where it fails.
      guard waits, self.goOn.wait(timeout: .now() + 20) == .timedOut else { return }
      self.state.withLock { ($0.wasLate, $0.isClosed) = (true, false) }
    }

    func close() { self.state.withLock { $0.isClosed = true } }

    func open() {
      let waiting = self.state.withLock { state in
        state.isClosed = false
        return state.waiting
      }
      for _ in 0..<waiting { self.goOn.signal() }
    }

    /// Whether somebody waited until nobody waits any more.
    var wasLate: Bool { self.state.withLock { $0.wasLate } }

    /// Returns once a change is held up.
    func isReached() async throws {
      for _ in 0..<1_000 where self.state.withLock({ $0.waiting == 0 }) {
        try await Task.sleep(for: .milliseconds(10))
      }
      try #require(self.state.withLock { $0.waiting > 0 })
    }
  }

  private static func withStore(
    _ body: (_ store: TrialStore, _ gate: Gate, _ folder: URL) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      let gate = Gate()
      let store = try TrialStore(
        folder: folder.path, disk: SystemDisk(), runtime: .system,
        catalog: try TrialCatalog(
          path: folder.appending(path: "catalog.sqlite").path, beforeWriting: gate.pass))
      try await body(store, gate, folder)
    }
  }

  @Test func `while the catalog is written trials are stored, acknowledged and read`() async throws {
    try await Self.withStore { store, gate, _ in
      gate.close()
      #expect(try await store.store(Recovery.trial(0)) == .stored)
      try await gate.isReached()
      for index in 1..<4 { #expect(try await store.store(Recovery.trial(index)) == .stored) }
      for index in 0..<4 {
        #expect(try await store.store(Recovery.trial(index)) == .duplicate)
        #expect(try await store.trial(Recovery.name(index)) == Recovery.trial(index))
      }
      #expect(await store.uncataloguedTrials == 4)
      #expect(!gate.wasLate, "somebody waited for the catalog")
      gate.open()
      #expect(try await Recovery.ids(store) == (0..<4).map { "t-\($0)" })
      #expect(await store.uncataloguedTrials == 0)
      #expect(try await store.usage().duplicates == 0)
    }
  }

  @Test func `a reader of the catalog finds what was acknowledged before it asked`() async throws {
    try await Self.withStore { store, gate, _ in
      gate.close()
      for index in 0..<3 { #expect(try await store.store(Recovery.trial(index)) == .stored) }
      try await gate.isReached()
      async let ids = Recovery.ids(store)
      gate.open()
      #expect(try await ids == (0..<3).map { "t-\($0)" })
    }
  }

  @Test func `a trial that is lost while the catalog is told of it is dropped there, and stored again`()
    async throws
  {
    try await Self.withStore { store, gate, folder in
      #expect(try await store.store(Recovery.trial(0)) == .stored)
      await store.flushCounters()
      let place = try Recovery.place("t-0", in: folder)
      gate.close()
      #expect(try await store.store(Recovery.trial(1)) == .stored)
      try await gate.isReached()
      try Recovery.flip(folder.appending(path: "log/\(place.file)"), at: place.offset + place.length + 600)
      await #expect(throws: TrialsError.self) { try await store.trial(Recovery.name(1)) }
      #expect(try await store.store(Recovery.trial(1)) == .stored)
      #expect(!gate.wasLate, "somebody waited for the catalog")
      gate.open()
      #expect(try await Recovery.ids(store) == ["t-0", "t-1"])
      #expect(try await store.trial(Recovery.name(1)) == Recovery.trial(1))
      #expect(try await store.usage().duplicates == 0)
      #expect(try Recovery.place("t-1", in: folder).offset > place.offset + 2 * place.length)
    }
  }
}
