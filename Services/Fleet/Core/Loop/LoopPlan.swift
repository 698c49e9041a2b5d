/// What `fleet loop` is going to do: tasks, numbers of trials, sizes of training. Values only.
package struct LoopPlan: Sendable, Equatable {
  package var robots: [String]
  /// Tasks of v1 and v2.
  package var tasks: [String]
  /// Task that is added by transfer.
  package var newTask: String
  /// Steps after which a trial has failed.
  package var maximumSteps: UInt32
  /// Demonstrations of each task before v1.
  package var demonstrations: Int
  /// Trials of each task with v1.
  package var firstTrials: Int
  /// Further demonstrations of each task before v2, on top of labelled trials where v1 failed.
  package var furtherDemonstrations: Int
  /// Trials an arm in the experiment of v1 against v2.
  package var trialsPerArm: Int
  /// Demonstrations of the new task, and trials of it after transfer.
  package var transferDemonstrations: Int
  package var transferTrials: Int
  /// Most trials with the bad model before its release counts as undetected.
  package var badTrials: Int
  /// Trials given to the robot with the broken gripper.
  package var brokenTrials: Int
  /// Seconds of optimisation for v1, v2 and the transfer.
  package var firstTraining: Double
  package var secondTraining: Double
  package var transferTraining: Double
  /// Optimizer steps of the bad model.
  package var badSteps: UInt32
  /// Pixels of the network's image.
  package var imageSize: UInt32
  /// Standard deviation of the disturbance in demonstrations, in units of action.
  package var noise: Double

  /// At most 20 minutes on 2 cores.
  package static let full = LoopPlan(
    robots: ["robot-1", "robot-2", "robot-3", "robot-4"],
    tasks: [
      "button-press-topdown-v3", "drawer-open-v3", "drawer-close-v3", "door-open-v3", "window-open-v3",
    ],
    newTask: "window-close-v3", maximumSteps: 150,
    demonstrations: 8, firstTrials: 4, furtherDemonstrations: 8, trialsPerArm: 55,
    transferDemonstrations: 10, transferTrials: 10, badTrials: 40, brokenTrials: 12,
    firstTraining: 100, secondTraining: 220, transferTraining: 30, badSteps: 1, imageSize: 112, noise: 0.2)

  /// The same phases with 2 tasks: at most 6 minutes on 2 cores.
  package static let quick = LoopPlan(
    robots: ["robot-1", "robot-2", "robot-3", "robot-4"],
    tasks: ["drawer-close-v3", "window-open-v3"],
    newTask: "button-press-topdown-v3", maximumSteps: 120,
    demonstrations: 5, firstTrials: 3, furtherDemonstrations: 4, trialsPerArm: 8,
    transferDemonstrations: 5, transferTrials: 4, badTrials: 24, brokenTrials: 10,
    firstTraining: 25, secondTraining: 40, transferTraining: 10, badSteps: 1, imageSize: 112, noise: 0.2)
}

/// Hands out seeds: a layout that was demonstrated is never tried again to measure success.
package struct SeedAllocator: Sendable {
  /// Seeds of demonstrations and labelled trials begin here …
  package static let trainingStart: UInt64 = 1
  /// … and those of trials that measure success here.
  package static let evaluationStart: UInt64 = 1_000_000

  private var nextTraining: [String: UInt64] = [:]
  private var nextEvaluation: [String: UInt64] = [:]

  package init() {}

  /// Seeds of layouts to learn from; never given twice.
  package mutating func training(_ task: String, count: Int) -> [UInt64] {
    Self.take(count, from: &self.nextTraining[task, default: Self.trainingStart])
  }

  /// Seeds of layouts to measure on; never given twice, and never learnt from.
  package mutating func evaluation(_ task: String, count: Int) -> [UInt64] {
    Self.take(count, from: &self.nextEvaluation[task, default: Self.evaluationStart])
  }

  private static func take(_ count: Int, from next: inout UInt64) -> [UInt64] {
    defer { next += UInt64(count) }
    return (0..<UInt64(count)).map { next + $0 }
  }
}
