import Schemas
import TestSupport
import Testing

@testable import MonitorCore

@Suite("Names that the monitor takes")
struct MonitorNameTests {
  @Test func `robots and releases have the names that they have everywhere`() throws {
    var state = MonitorState()
    for name in NameSamples.good + NameSamples.bad {
      state.hear(Heartbeat(robot: name, state: .idle), salt: "s", now: 1)
      let request = WatchReleaseRequest(
        releaseID: name, modelVersion: "v2", baselineVersion: "v1")
      let isTaken = (try? state.watch(request, now: 1)) != nil
      #expect(isTaken == NameSamples.good.contains(name), "\(name.debugDescription)")
    }
    #expect(Set(state.robots.keys) == Set(NameSamples.good))
  }
}
