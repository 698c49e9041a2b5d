import Foundation

/// The last word on every action, whoever chose it.
package struct ActionLimits: Sendable {
  /// Joint angles of a Sawyer arm in radians, first to last joint (Rethink Robotics, Sawyer specifications, "Joint limits").
  package static let sawyerJoints: [ClosedRange<Float>] = [
    -3.0503...3.0503, -3.8095...2.2736, -3.0426...3.0426, -3.0439...3.0439, -2.9761...2.9761,
    -2.9761...2.9761,
    -4.7124...4.7124,
  ]
  package static let dimensions = 4
  package static let joints = 7

  /// Change of one component from one step to the next, at most; nil for no bound. Components are in [-1, 1], so 2 is no bound.
  package var maximumChange: Float?
  /// Radians beyond a joint's range before the robot stops.
  package var jointMargin: Float
  package var jointRanges: [ClosedRange<Float>]

  package init(
    maximumChange: Float? = nil, jointMargin: Float = 0.1, jointRanges: [ClosedRange<Float>] = sawyerJoints
  ) {
    self.maximumChange = maximumChange
    self.jointMargin = jointMargin
    self.jointRanges = jointRanges
  }

  package struct Verdict: Sendable, Hashable {
    /// 4-D, each finite and in [-1, 1].
    package var action: [Float]
    /// The action is not the one that was asked for.
    package var limited: Bool
    /// "action-clipped" or "not-finite"; nil where the action was let pass.
    package var event: String?
  }

  /// - Parameters:
  ///   - action: what the policy or expert asks for.
  ///   - previous: what was executed last.
  package func limit(_ action: [Float], previous: [Float]) -> Verdict {
    guard action.count == Self.dimensions, action.allSatisfy(\.isFinite) else {
      return Verdict(action: Self.hold(previous), limited: true, event: "not-finite")
    }
    let allowed = zip(action, previous).map { wanted, last in
      let clamped = min(max(wanted, -1), 1)
      guard let change = self.maximumChange else { return clamped }
      return min(max(clamped, last - change), last + change)
    }
    let changed = allowed != action
    return Verdict(action: allowed, limited: changed, event: changed ? "action-clipped" : nil)
  }

  /// Holds the arm where it is and the gripper as it was.
  package static func hold(_ previous: [Float]) -> [Float] { [0, 0, 0, previous.last ?? 0] }

  /// The first joint that is outside its range by more than the margin, in words; nil where all are inside.
  package func jointViolation(_ angles: [Float]) -> String? {
    for (index, (angle, range)) in zip(angles, self.jointRanges).enumerated()
    where angle < range.lowerBound - self.jointMargin || angle > range.upperBound + self.jointMargin {
      return
        "joint \(index) is at \(angle) rad; its range is \(range.lowerBound) to \(range.upperBound) rad, "
        + "margin \(self.jointMargin)"
    }
    return nil
  }
}
