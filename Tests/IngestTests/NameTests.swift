import Schemas
import TestSupport
import Testing

@testable import IngestCore

@Suite("Names that ingest takes")
struct IngestNameTests {
  @Test func `robots and trials have the names that they have everywhere`() {
    for name in NameSamples.good + NameSamples.bad {
      for (robot, trial) in [(name, "t-1"), ("robot-1", name)] {
        let event = TrialEvent(
          robot: robot, trialID: trial, event: .header(TrialHeader(trialID: trial, robot: robot)))
        let refusal = TrialAssembler.refusal(of: event, limits: .init())
        #expect((refusal == nil) == NameSamples.good.contains(name), "\(name.debugDescription)")
      }
    }
  }
}
