/// One release, with all that taking it back needs.
package struct ReleaseRecord: Sendable, Hashable, Codable {
  package enum State: String, Sendable, Codable {
    case rollingOut, complete, rolledBack, superseded
  }

  package var id: String
  /// Order of creation.
  package var number: Int
  package var version: String
  package var robots: [String]
  /// What each robot had before.
  package var previous: [String: Placement]
  package var state: State = .rollingOut
  package var reason: String
  /// The monitor compares it with the version before, and it is taken back on a regression.
  package var guarded: Bool
  /// What robots that come later get, before this release; nil where the release is not for the whole fleet.
  package var previousFleet: Placement?
  /// The experiment that it is an arm of.
  package var experimentID: String?
  /// What its caller called the request; nil for nothing.
  package var requestID: String?
  package var createdUnixNanos: Int64
  package var completedUnixNanos: Int64 = 0
  package var alertID = ""
  package var evidence = ""
  package var rolledBackUnixNanos: Int64 = 0
  package var restoredUnixNanos: Int64 = 0
  /// Robots that the rollback moved.
  package var restoring: [String] = []
  /// The decision about each of them; nil in a record of a version that did not note it.
  package var restoringGenerations: [String: UInt64]?

  /// The version that most of its robots had before.
  package var previousVersion: String {
    let counts = Dictionary(self.previous.values.map { ($0.version, 1) }, uniquingKeysWith: +)
    return counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? ""
  }

  package var isActive: Bool { self.state == .rollingOut || self.state == .complete }
}
