/// What a robot is to act with, and by which release.
package struct Placement: Sendable, Hashable, Codable {
  /// Empty: no model.
  package var version: String
  /// Empty: by none.
  package var releaseID: String

  package static let nothing = Placement(version: "", releaseID: "")

  package init(version: String, releaseID: String) {
    self.version = version
    self.releaseID = releaseID
  }
}

/// One robot as rollout knows it.
package struct RobotRecord: Sendable, Hashable, Codable {
  package var name: String
  package var placement: Placement = .nothing
  /// Grows with each change of the placement.
  package var generation: UInt64 = 0
  package var reported = ""
  package var reportedGeneration: UInt64 = 0
  package var reportedUnixNanos: Int64 = 0
  package var error = ""

  package init(name: String) { self.name = name }

  /// Whether it said that it acts with what is desired.
  package var isSettled: Bool {
    self.reportedGeneration >= self.generation && self.reported == self.placement.version
  }

  /// Desires something else.
  mutating func place(_ placement: Placement) {
    self.placement = placement
    self.generation += 1
  }
}
