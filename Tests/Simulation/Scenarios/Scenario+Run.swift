extension Scenario {
  /// Runs one seed.
  /// - Parameters:
  ///   - folder: for real databases; made, and removed at the end. On a memory file system it is fast.
  ///   - listener: hears every event in words.
  package func run(
    seed: UInt64, folder: String, listener: (@Sendable (String) -> Void)? = nil
  ) throws -> SimulationReport {
    switch self {
    case .delivery: try DeliverySimulation(seed: seed, folder: folder, listener: listener).run()
    case .rollout: try RolloutSimulation(seed: seed, folder: folder, listener: listener).run()
    }
  }
}
