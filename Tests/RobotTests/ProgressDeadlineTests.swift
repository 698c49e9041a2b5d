import SimulationKit
import Storage
import Synchronization
import Testing

@testable import RobotCore

/// In simulated time: hours pass at once.
@Suite struct ProgressDeadlineTests {
  /// What came of it, and after how much time.
  private final class Seen: Sendable {
    private let state = Mutex<(outcome: String, after: Duration)?>(nil)
    var outcome: String? { self.state.withLock { $0?.outcome } }
    var after: Duration? { self.state.withLock { $0?.after } }
    func end(_ outcome: String, after: Duration) { self.state.withLock { $0 = (outcome, after) } }
  }

  /// Moves `moves` times, 50 s apart, and then needs `last` more; given up after 60 s without a move.
  private func run(moves: Int, last: Duration) -> Seen {
    var configuration = Simulation.Configuration()
    configuration.stallChance = 0
    let simulation = Simulation(seed: 1, configuration: configuration)
    let life = SimulatedHost("robot", in: simulation).boot()
    let (runtime, seen) = (life.runtime, Seen())
    life.start {
      let start = runtime.now()
      do {
        let result = try await withProgressDeadline(.seconds(60), runtime: runtime, "The upload") { watch in
          for _ in 0..<moves {
            try await runtime.sleep(for: .seconds(50))
            watch.moved()
          }
          try await runtime.sleep(for: last)
          return "done"
        }
        seen.end(result, after: runtime.now() - start)
      } catch {
        seen.end((error as? RobotError)?.code.rawValue ?? "\(error)", after: runtime.now() - start)
      }
    }
    simulation.run(until: .seconds(1_000_000)) { seen.outcome != nil }
    return seen
  }

  private static func isAbout(_ duration: Duration?, _ expected: Duration) -> Bool {
    guard let duration else { return false }
    return (expected...expected + .seconds(1)).contains(duration)
  }

  @Test func `what gets on is never given up, however long it takes`() {
    let seen = self.run(moves: 1_000, last: .seconds(59))
    #expect(seen.outcome == "done")
    #expect(Self.isAbout(seen.after, .seconds(50_059)))
  }

  @Test(arguments: [0, 1, 7]) func `what does not get on is given up in time`(moves: Int) {
    let seen = self.run(moves: moves, last: .seconds(3_600))
    #expect(seen.outcome == "noProgress")
    #expect(Self.isAbout(seen.after, .seconds(50 * moves + 60)))
  }
}
