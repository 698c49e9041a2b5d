/// What ingest has in memory of trials that are not stored yet, and which robot may have more. A value.
///
/// A robot may have its share, and never more than is left for all others: the more is taken, the less each may take. (Choudhury
/// and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2),
/// 1998, with factor 1.) The last quarter is kept for robots that have little here: one trial of no more than a 64th of all.
package struct RobotShares: Sendable {
  package struct Limits: Sendable {
    /// Trials of one robot that arrive, are checked or wait for the disk.
    package var robotTrials = 64
    /// Their bytes in memory.
    package var robotBytes = 256 << 20
    /// Trials of all robots.
    package var trials = 512
    /// Their bytes in memory.
    package var bytes = 1 << 30

    /// Bytes of the largest trial that ever has room, which is when nothing else is here.
    package var largestTrial: Int { min(self.robotBytes, Self.common(self.bytes) / 2) }
    /// Bytes of a first trial for which there is the last quarter.
    package var littleBytes: Int { self.bytes / 64 }

    /// What is there for robots that have more.
    static func common(_ all: Int) -> Int { all - all / 4 }

    package init() {}
  }

  package struct Holding: Sendable, Equatable {
    package var trials = 0
    package var bytes = 0
  }

  package let limits: Limits
  package private(set) var all = Holding()
  private var robots: [String: Holding] = [:]

  package init(limits: Limits) { self.limits = limits }

  package func holding(of robot: String) -> Holding { self.robots[robot] ?? Holding() }

  /// Why a robot may not have so much more here now, and what to do; nil where it may.
  func shortage(of robot: String, trials: Int, bytes: Int) -> String? {
    let own = self.holding(of: robot)
    let later = "send this one again later"
    if trials > 0, own.trials + trials > self.limits.robotTrials {
      return
        "robot '\(robot)' has \(own.trials) trials here that are not stored yet, as many as one may have (ingest.robot-trials); \(later)"
    }
    if own.bytes + bytes > self.limits.robotBytes {
      return
        "robot '\(robot)' has \(own.bytes) bytes here that are not stored yet, and may have \(self.limits.robotBytes) (ingest.robot-megabytes); \(later)"
    }
    let isFirst = own.trials + trials <= 1
    if trials > 0,
      !Self.hasRoom(self.limits.trials, taken: self.all.trials + trials, own: own.trials + trials, isFirst)
    {
      return
        "all robots together have \(self.all.trials) trials here that are not stored yet, of \(self.limits.trials) (ingest.open-trials), and robot '\(robot)' has its part of them; \(later)"
    }
    let isLittle = isFirst && own.bytes + bytes <= self.limits.littleBytes
    if !Self.hasRoom(self.limits.bytes, taken: self.all.bytes + bytes, own: own.bytes + bytes, isLittle) {
      return
        "all robots together have \(self.all.bytes) bytes here that are not stored yet, of \(self.limits.bytes) (ingest.held-megabytes), and robot '\(robot)' has its part of them; \(later)"
    }
    return nil
  }

  private static func hasRoom(_ limit: Int, taken: Int, own: Int, _ isLittle: Bool) -> Bool {
    isLittle ? taken <= limit : own <= Limits.common(limit) - taken
  }

  mutating func take(_ robot: String, trials: Int, bytes: Int) {
    self.robots[robot, default: Holding()].trials += trials
    self.robots[robot, default: Holding()].bytes += bytes
    self.all.trials += trials
    self.all.bytes += bytes
  }

  /// Gives one trial back.
  mutating func giveBack(_ robot: String, bytes: Int) {
    self.take(robot, trials: -1, bytes: -bytes)
    // Names come from outside: one that has nothing here is not remembered.
    if self.robots[robot] == Holding() { self.robots[robot] = nil }
  }
}
