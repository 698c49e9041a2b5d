package import ArgumentParser
import Schemas
import ServiceKit

/// `fleet robots`.
package struct Robots: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "List robots, give them work, stop them, or let them back to work.",
    subcommands: [List.self, GiveWork.self, Stop.self, Resume.self],
    defaultSubcommand: List.self)
  package init() {}

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every robot that the monitor knows.")
    @OptionGroup var options: FleetOptions

    func run() async throws {
      let rows = try await self.options.withClients {
        try await $0.monitor.listRobots(.init(), options: .within(.seconds(10))).robots
      }
      .map(RobotLine.init)
      try Self.listing(rows).show(json: self.options.json ? rows : nil)
    }

    static func listing(_ rows: [RobotLine]) -> Listing {
      Listing(
        columns: [
          "robot", "state", "model", "success", "failures in a row", "spooled", "last seen", "reason",
        ],
        rows: rows.map {
          [
            $0.robot, $0.state, $0.model.isEmpty ? "–" : $0.model, "\($0.successes)/\($0.trials)",
            "\($0.consecutiveFailures)", "\($0.spooled)", TimeText.ago($0.lastSeenUnixNanos), $0.remark,
          ]
        })
    }
  }
}

/// A robot as listings show it.
struct RobotLine: Encodable, Sendable {
  var robot, state, model, reason: String
  /// What its disk refuses; empty where it does all that it should.
  var unkept: String
  var successes, trials: UInt64
  var consecutiveFailures: UInt32
  var spooled: UInt32
  var lastSeenUnixNanos: Int64

  init(_ row: RobotRow) {
    let heartbeat = row.heartbeat ?? Heartbeat()
    self.robot = row.robot
    self.state = row.state.word
    self.model = heartbeat.modelVersion
    // Whoever stands beside the robot is believed first.
    self.reason =
      [heartbeat.stopReason, row.reason, heartbeat.resumeReason].first { !$0.isEmpty } ?? ""
    self.unkept = heartbeat.unkept
    self.successes = row.successes
    self.trials = row.trials
    self.consecutiveFailures = row.consecutiveFailures
    self.spooled = heartbeat.spooledTrials
    self.lastSeenUnixNanos = row.lastSeenUnixNanos
  }

  /// What people are told of it: why it stands still or may work, and what its disk refuses.
  var remark: String {
    [self.reason, DiskDoubt.text(self.unkept)].filter { !$0.isEmpty }.joined(separator: "; ")
  }
}

/// How commands say what a robot's disk refuses.
enum DiskDoubt {
  /// - Parameter unkept: as the robot says it; empty for none.
  static func text(_ unkept: String) -> String {
    unkept.isEmpty ? "" : "ITS DISK REFUSES SOMETHING, and it tries again: \(unkept)"
  }
}
