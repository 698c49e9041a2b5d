import Schemas
import Testing

@testable import Trials

@Suite("QualityCheck")
struct QualityCheckTests {
  @Test func `a good trial has no reasons`() throws {
    #expect(QualityCheck.reasons(for: try SampleTrial.make(steps: 20)) == [])
  }

  @Test func `numbers that cannot be are found`() throws {
    let cases: [(QualityReason, (inout TrialStep) -> Void)] = [
      (.notFinite, { if $0.index == 3 { $0.jointAngles[2] = .nan } }),
      (.notFinite, { if $0.index == 3 { $0.action[0] = .infinity } }),
      (.jointLimit, { if $0.index == 3 { $0.jointAngles[0] = 9 } }),
      (.actionLimit, { if $0.index == 3 { $0.action[1] = 1.5 } }),
      (.actionLimit, { if $0.index == 3 { $0.expertAction = [0, 0, -25, 0] } }),
      (.schema, { if $0.index == 3 { $0.action = [0] } }),
      (.stepGap, { if $0.index == 3 { $0.index = 9 } }),
      (.stepGap, { if $0.index == 3 { $0.elapsedNanos = 0 } }),
    ]
    for (reason, change) in cases {
      #expect(QualityCheck.reasons(for: try SampleTrial.make(change: change)) == [reason])
    }
  }

  @Test func `cameras that see nothing or nothing new are found`() throws {
    let black = try SampleTrial.make(steps: 20, images: { _ in [UInt8](repeating: 1, count: 64 * 64 * 3) })
    #expect(QualityCheck.reasons(for: black) == [.frozenCamera, .blackCamera])
    let still = SampleTrial.image(0)
    let digests = (0..<20).map { _ in still.withUnsafeBufferPointer { PictureDigest($0) } }
    let moving = try SampleTrial.make(steps: 20).steps
    #expect(QualityCheck.cameraReasons(digests, steps: moving, limits: .init()) == [.frozenCamera])
    let resting = try SampleTrial.make(
      steps: 20, change: { $0.jointAngles = Array(repeating: 0.1, count: 7) }
    ).steps
    #expect(QualityCheck.cameraReasons(digests, steps: resting, limits: .init()) == [])
  }

  @Test func `events that contradict each other are found`() throws {
    var trial = try SampleTrial.make()
    trial.events.remove(at: 1)
    #expect(QualityCheck.reasons(for: trial) == [.schema])
    trial = try SampleTrial.make()
    if case .video(var video) = trial.events[2].event {
      video.frames = 7
      trial.events[2].event = .video(video)
    }
    #expect(QualityCheck.reasons(for: trial) == [.imageSize])
    trial = try SampleTrial.make()
    if case .header(var header) = trial.events[0].event {
      header.imageWidth = 99
      trial.events[0].event = .header(header)
    }
    #expect(QualityCheck.reasons(for: trial) == [.imageSize])
    #expect(QualityCheck.reasons(for: TrialRecord(events: [])) == [.schema])
    trial = try SampleTrial.make()
    var end = try #require(trial.events.last)
    end.number = 1
    end.event = .end(TrialEnd(outcome: .aborted))
    trial.events = [trial.events[0], end]
    #expect(QualityCheck.reasons(for: trial) == [.empty])
  }

  @Test func `a video that says too much of itself is not decoded`() throws {
    // What is no video at all would be found by decoding it.
    func reasons(frames: UInt32, side: UInt32, limits: QualityLimits = .init()) throws -> [QualityReason] {
      var trial = try SampleTrial.make()
      if case .header(var header) = trial.events[0].event {
        (header.imageHeight, header.imageWidth) = (side, side)
        trial.events[0].event = .header(header)
      }
      if case .video(var video) = trial.events[2].event {
        (video.frames, video.width, video.height, video.data) = (frames, side, side, [1, 2, 3])
        trial.events[2].event = .video(video)
      }
      return QualityCheck.reasons(for: trial, limits: limits)
    }
    #expect(try reasons(frames: 8, side: 64) == [.video])
    #expect(try reasons(frames: .max, side: 64) == [.imageSize])
    #expect(try reasons(frames: 9, side: 64) == [.imageSize])
    #expect(try reasons(frames: 8, side: .max) == [.imageSize])
    var limits = QualityLimits()
    limits.maximumDecodedBytes = 8 * 64 * 64 * 3 - 1
    #expect(try reasons(frames: 8, side: 64, limits: limits) == [.imageSize])
    limits = QualityLimits()
    limits.maximumSteps = 7
    #expect(try reasons(frames: 8, side: 64, limits: limits) == [.schema])
  }

  /// Each would have a decoder of its own.
  @Test func `a video of no images is none`() throws {
    var trial = try SampleTrial.make()
    let end = trial.events.removeLast()
    let side = UInt32(SampleTrial.side)
    let empty = TrialVideo(codec: "h264", firstStep: 8, frames: 0, width: side, height: side)
    trial.events.append(TrialEvent(robot: "robot-1", trialID: "t-1", number: 3, event: .video(empty)))
    trial.events.append(TrialEvent(robot: "robot-1", trialID: "t-1", number: 4, event: end.event))
    #expect(QualityCheck.reasons(for: trial) == [.imageSize])
  }
}
