import Schemas
import TestSupport
import Testing

@testable import RolloutCore

@Suite("Names that rollout takes")
struct RolloutNameTests {
  @Test func `robots have the names that they have everywhere`() {
    var state = RolloutState()
    for name in NameSamples.good + NameSamples.bad {
      _ = try? state.report(ReportVersionRequest(robot: name), now: 1)
    }
    #expect(Set(state.robots.keys) == Set(NameSamples.good))
  }
}
