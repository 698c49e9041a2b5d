import Foundation
import Schemas

@testable import Trials

/// Trials to test with: an arm that moves, a camera that sees it.
enum SampleTrial {
  static let side = 64

  /// A picture with a gradient and a bright square that moves with `step`.
  static func image(_ step: Int, side: Int = side) -> [UInt8] {
    var image = [UInt8](repeating: 0, count: side * side * 3)
    for y in 0..<side {
      for x in 0..<side {
        let at = (y * side + x) * 3
        let lit = abs(x - (step * 3) % side) < 6 && abs(y - side / 2) < 6
        image[at] = lit ? 230 : UInt8(40 + x * 100 / side)
        image[at + 1] = lit ? 40 : UInt8(60 + y * 100 / side)
        image[at + 2] = 90
      }
    }
    return image
  }

  static func make(
    robot: String = "robot-1", id: String = "t-1", task: String = "reach", mode: ControlMode = .demonstration,
    outcome: Outcome = .success, steps: Int = 8, images: (Int) -> [UInt8] = { image($0) },
    change: (inout TrialStep) -> Void = { _ in }
  ) throws -> TrialRecord {
    let header = TrialHeader(
      trialID: id, robot: robot, facility: "lab", task: task, mode: mode, startedUnixNanos: 1_000,
      imageHeight: UInt32(side), imageWidth: UInt32(side), controlHertz: 20, orderID: "order-1")
    let run = (0..<steps).map { index in
      var step = TrialStep(
        index: UInt32(index), elapsedNanos: Int64(index) * 50_000_000,
        jointAngles: (0..<7).map { Float($0) * 0.1 + Float(index) * 0.01 }, action: [0.1, -0.2, 0.3, 1],
        gripper: 0.5)
      change(&step)
      return step
    }
    let video = try VideoEncoder.encode((0..<steps).map(images), width: side, height: side)
    let end = TrialEnd(outcome: outcome, steps: UInt32(steps), endedUnixNanos: 2_000_000_000)
    let events: [TrialEvent.Event] = [
      .header(header), .steps(TrialSteps(steps: run)), .video(video), .end(end),
    ]
    return TrialRecord(
      events: events.enumerated().map {
        TrialEvent(robot: robot, trialID: id, number: UInt32($0.offset), event: $0.element)
      })
  }
}

/// A folder that is gone with the test.
func withTemporaryFolder<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "fleetloop-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder)
}
