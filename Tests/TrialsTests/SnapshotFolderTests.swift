import Schemas
import SimulationKit
import Storage
import Testing

@testable import Trials

@Suite("SnapshotFolder")
struct SnapshotFolderTests {
  @Test func `a snapshot that was answered survives a power cut`() async throws {
    let names = (0..<3).map { TrialName(robot: "robot-1", trialID: "t-\($0)") }
    for seed in 0..<100 as Range<UInt64> {
      let host = SimulatedHost("ingest", in: Simulation(seed: seed))
      // The machine's threads: only the disk is simulated.
      let folder = try SnapshotFolder(folder: "/snapshots", disk: host.boot().disk, runtime: .system)
      let snapshot = try await folder.make(DatasetSnapshot(trials: 3), of: names)
      host.die(.powerCut)
      let next = try SnapshotFolder(folder: "/snapshots", disk: host.boot().disk, runtime: .system)
      #expect(try await next.trials(of: snapshot.snapshotID) == names, "seed \(seed)")
    }
  }
}
