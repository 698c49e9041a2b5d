import Schemas
import Trials

/// Turns away what a control program says before it can do harm: each message names what is wrong and what would be right.
enum RequestChecks {
  static let imageSide: ClosedRange<UInt32> = 16...4_096

  static func check(_ start: StartTrial) throws(RobotError) {
    let most = TrialLimits.textBytes
    try self.demand(
      !start.task.isEmpty && start.task.utf8.count <= most, "A trial needs a task of 1 to \(most) bytes.")
    try self.demand(start.orderID.utf8.count <= most, "An order_id has at most \(most) bytes.")
    try self.demand(
      [.demonstration, .policy, .labelledPolicy].contains(start.mode),
      "A trial's mode is demonstration, policy or labelled policy.")
    try self.demand(
      self.imageSide.contains(start.imageHeight) && self.imageSide.contains(start.imageWidth)
        && start.imageHeight.isMultiple(of: 2) && start.imageWidth.isMultiple(of: 2),
      "Images of \(start.imageWidth) x \(start.imageHeight) pixels: each side must be even and \(self.imageSide)."
    )
    try self.demand(
      start.controlHertz.isFinite && start.controlHertz > 0, "control_hertz must be a number above 0.")
    try self.demand(
      start.labels.count <= 64 && start.labels.allSatisfy { $0.key.utf8.count + $0.value.utf8.count <= 512 },
      "A trial has at most 64 labels of at most 512 bytes.")
  }

  static func check(_ observe: Observe, step: UInt32, header: TrialHeader) throws(RobotError) {
    try self.demand(observe.step == step, "Observation \(observe.step) came where \(step) was due.")
    let bytes = Int(header.imageHeight) * Int(header.imageWidth) * 3
    try self.demand(
      observe.image.count == bytes,
      "The image has \(observe.image.count) bytes; \(header.imageWidth) x \(header.imageHeight) RGB has \(bytes)."
    )
    try self.demand(
      observe.jointAngles.count == ActionLimits.joints && observe.jointAngles.allSatisfy(\.isFinite),
      "An observation has \(ActionLimits.joints) finite joint angles in radians.")
    try self.demand(observe.gripper.isFinite, "The gripper's opening is not a finite number.")
    let expert = observe.expertAction
    try self.demand(
      expert.isEmpty || (expert.count == ActionLimits.dimensions && expert.allSatisfy(\.isFinite)),
      "An expert's action has \(ActionLimits.dimensions) finite components.")
    try self.demand(
      header.mode != .demonstration || !expert.isEmpty,
      "A demonstration needs the expert's action at every step.")
  }

  private static func demand(_ condition: Bool, _ message: @autoclosure () -> String) throws(RobotError) {
    guard condition else { throw RobotError(.invalidRequest, message()) }
  }
}
