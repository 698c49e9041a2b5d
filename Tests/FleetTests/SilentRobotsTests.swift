import Schemas
import Testing

@testable import FleetCore

@Suite("SilentRobots")
struct SilentRobotsTests {
  private let start = ContinuousClock.now
  private var silent = SilentRobots()

  private mutating func lost(_ states: [String: RobotState], after seconds: Int) -> Set<String> {
    self.silent.lost(["a", "b"], states: states, at: self.start + .seconds(seconds))
  }

  @Test(arguments: [RobotState.offline, .unspecified, nil])
  mutating func `only who is silent for long loses its work`(state: RobotState?) {
    #expect(self.lost(["a": .idle, "b": state].compactMapValues(\.self), after: 0).isEmpty)
    #expect(self.lost(["a": .working, "b": state].compactMapValues(\.self), after: 15).isEmpty)
    #expect(self.lost(["a": .working, "b": state].compactMapValues(\.self), after: 16) == ["b"])
  }

  @Test mutating func `who is heard again was never silent`() {
    #expect(self.lost(["a": .offline, "b": .offline], after: 0).isEmpty)
    #expect(self.lost(["a": .working, "b": .offline], after: 10).isEmpty)
    #expect(self.lost(["a": .offline, "b": .offline], after: 20) == ["b"])
    #expect(self.lost(["a": .offline, "b": .offline], after: 36) == ["a", "b"])
  }

  @Test mutating func `who is out of the work loses it at once`() {
    #expect(self.lost(["a": .stopped, "b": .unhealthy], after: 0) == ["a", "b"])
  }
}
