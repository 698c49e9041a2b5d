package import Schemas

/// A trial by name: a place in the order of storing that no step of a clock moves, and that a catalog which was made anew
/// from the log has as well, whatever numbers it gives.
package struct TrialCursor: Sendable, Hashable, Codable {
  package var robot: String
  package var trialID: String

  package init(robot: String, trialID: String) {
    self.robot = robot
    self.trialID = trialID
  }

  init(_ trial: StoredOutcome) { self.init(robot: trial.robot, trialID: trial.trialID) }
}

/// Ingest's list, read from its newest trial back to the cursor.
package struct TrialCatchUp: Sendable {
  /// Trials that are read at most: enough for the last runs of failures of every robot.
  package static let capacity = 10_000
  /// Trials of a page.
  package static let pageSize: UInt32 = 200

  private let cursor: TrialCursor?
  /// Newest first, and of each no more than is counted: what a header may have besides is a hundred times as much.
  package private(set) var trials: [StoredOutcome] = []
  package private(set) var isAtCursor = false

  package init(from cursor: TrialCursor?) { self.cursor = cursor }

  /// Takes the next page, newest first, as far as the cursor.
  package mutating func add(_ page: [TrialSummary]) {
    for trial in page where !self.isComplete {
      guard let header = trial.header, let end = trial.end else { continue }
      let outcome = StoredOutcome(robot: header.robot, trialID: header.trialID, outcome: end.outcome)
      if TrialCursor(outcome) == self.cursor {
        self.isAtCursor = true
      } else {
        self.trials.append(outcome)
      }
    }
  }

  var isFull: Bool { self.trials.count >= Self.capacity }
  /// Whether nothing more is to be read.
  package var isComplete: Bool { self.isAtCursor || self.isFull }
}

extension MonitorState {
  /// Counts what was stored while nobody listened.
  package mutating func hear(_ catchUp: TrialCatchUp, salt: String, now: Int64) {
    let trials = Array(catchUp.trials.reversed())
    let begins = self.firstUncounted(of: trials, catchUp)
    for (index, trial) in trials.enumerated() where index >= begins[trial.robot] ?? 0 {
      self.hear(
        robot: trial.robot, trialID: trial.trialID, outcome: trial.outcome, salt: salt, now: now)
    }
    if let newest = catchUp.trials.first { self.cursor = TrialCursor(newest) }
  }

  /// By robot the index in the list before which its trials were counted long ago.
  ///
  /// A robot remembers its last trials only, so a list that reaches back further must not count what lies before them.
  /// That is seldom one that ends at the cursor, and every one where the cursor's trial is gone: where ingest's catalog
  /// was lost, or an older one brought back.
  private func firstUncounted(of trials: [StoredOutcome], _ catchUp: TrialCatchUp) -> [String: Int] {
    var begins: [String: Int] = [:]
    var remembered: [String: Set<String>] = [:]
    for (index, trial) in trials.enumerated() {
      guard let robot = self.robots[trial.robot], !robot.recentTrials.isEmpty else { continue }
      if remembered[robot.name] == nil {
        // Up to the cursor, one that is not remembered between two that are was missed, and counts.
        remembered[robot.name] = Set(
          catchUp.isAtCursor ? robot.recentTrials.prefix(1) : robot.recentTrials[...])
      }
      if begins[robot.name] == nil, remembered[robot.name]?.contains(trial.trialID) == true {
        begins[robot.name] = index
      }
    }
    // A list that was read to its end without one that the robot remembers is an old one.
    if !catchUp.isComplete {
      for robot in remembered.keys where begins[robot] == nil { begins[robot] = trials.count }
    }
    return begins
  }
}
