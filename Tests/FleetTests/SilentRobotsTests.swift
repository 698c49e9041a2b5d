import Schemas
import Testing

@testable import FleetCore

@Suite("SilentRobots")
struct SilentRobotsTests {
  private let start = ContinuousClock.now
  private var silent = SilentRobots()
  private var now = 0

  /// With a look each second since the last one.
  private mutating func watched(_ states: [String: RobotState], until seconds: Int) -> Set<String> {
    while self.now < seconds - 1 { _ = self.lost(states, after: self.now + 1) }
    return self.lost(states, after: seconds)
  }

  private mutating func lost(_ states: [String: RobotState], after seconds: Int) -> Set<String> {
    self.now = seconds
    return self.silent.lost(["a", "b"], states: states, at: self.start + .seconds(seconds))
  }

  @Test(arguments: [RobotState.offline, .unspecified, nil])
  mutating func `only who is silent for long loses its work`(state: RobotState?) {
    #expect(self.lost(["a": .idle, "b": state].compactMapValues(\.self), after: 0).isEmpty)
    #expect(self.watched(["a": .working, "b": state].compactMapValues(\.self), until: 15).isEmpty)
    #expect(self.watched(["a": .working, "b": state].compactMapValues(\.self), until: 16) == ["b"])
  }

  /// As one that is started anew says of all of them, and then goes away itself.
  @Test(arguments: [RobotState.offline, .unspecified, nil])
  mutating func `time in which nobody looked is nobody's silence`(state: RobotState?) {
    let states = ["a": state, "b": state].compactMapValues(\.self)
    #expect(self.lost(states, after: 0).isEmpty)
    #expect(self.lost(states, after: 20).isEmpty)
  }

  @Test mutating func `who is heard again was never silent`() {
    #expect(self.lost(["a": .offline, "b": .offline], after: 0).isEmpty)
    #expect(self.watched(["a": .working, "b": .offline], until: 10).isEmpty)
    #expect(self.watched(["a": .offline, "b": .offline], until: 20) == ["b"])
    #expect(self.watched(["a": .offline, "b": .offline], until: 36) == ["a", "b"])
  }

  @Test mutating func `who is out of the work loses it at once`() {
    #expect(self.lost(["a": .stopped, "b": .unhealthy], after: 0) == ["a", "b"])
  }
}
