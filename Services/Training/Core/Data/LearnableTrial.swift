internal import Schemas

/// Decides what behaviour cloning may learn from one trial.
enum LearnableTrial {
  /// Steps of the longest trial that is taken.
  static let maximumSteps = 20_000

  /// The action that should have been taken at each step; nil where nobody knows.
  ///
  /// An expert's label counts in every trial. The executed action counts only in a demonstration that succeeded: what an
  /// expert did before a failure is no example.
  static func targets(header: TrialHeader, steps: [TrialStep], end: TrialEnd, joints: Int, actions: Int)
    -> [[Float]?]
  {
    let demonstrates = header.mode == .demonstration && end.outcome == .success
    return steps.map { step in
      guard step.jointAngles.count == joints, step.jointAngles.allSatisfy({ $0.isFinite && abs($0) < 1e4 })
      else {
        return nil
      }
      let action = !step.expertAction.isEmpty ? step.expertAction : demonstrates ? step.action : []
      guard action.count == actions, action.allSatisfy(\.isFinite) else { return nil }
      return action.map { min(1, max(-1, $0)) }
    }
  }
}
