import Schemas

/// Why a trial must not train a policy. The raw value is the word that reports and metrics use.
public enum QualityReason: String, Sendable, CaseIterable {
  /// Header, end or a step is missing, doubled, or contradicts another.
  case schema
  /// It ended before its first step: the robot was stopped, say, when it began.
  case empty
  /// Steps are not numbered 0, 1, 2 …, or their times go backwards.
  case stepGap = "step-gap"
  /// A number is NaN or infinite.
  case notFinite = "not-finite"
  /// A joint is outside of what the arm can do.
  case jointLimit = "joint-limit"
  /// A component of an action is outside [-1, 1].
  case actionLimit = "action-limit"
  /// Images have another size than the header says, or their number is not that of the steps.
  case imageSize = "image-size"
  /// The video cannot be decoded.
  case video
  /// The camera shows the same picture while the arm moves.
  case frozenCamera = "frozen-camera"
  /// The camera shows (almost) nothing.
  case blackCamera = "black-camera"
}

/// Limits that a good trial keeps.
public struct QualityLimits: Sendable {
  /// Joint angles of the arm in radians, widened by 5 %. Default: Rethink Sawyer, base to wrist.
  public var joints: [ClosedRange<Float>]
  /// Tolerance over 1 for a component of an action, for rounding.
  public var actionTolerance: Float = 1e-3
  /// Share of the trial with the very same picture while joints move that makes a camera frozen.
  public var frozenShare = 0.5
  /// Movement of a joint between two steps that counts as moving, in radians.
  public var movement: Float = 2e-3
  /// Mean of the green channel below which a picture is black, 0 … 255.
  public var blackLevel = 6.0
  /// Steps of the longest trial.
  public var maximumSteps = 100_000
  /// Height or width of the largest image, in pixels.
  public var maximumImageSide: UInt32 = 4_096
  /// Bytes of all images of a trial once they are decoded, as RGB. What has more is not decoded.
  public var maximumDecodedBytes = 8 << 30

  public init() {
    let sawyer: [(Float, Float)] = [
      (-3.0503, 3.0503), (-3.8095, 2.2736), (-3.0426, 3.0426), (-3.0439, 3.0439), (-2.9761, 2.9761),
      (-2.9761, 2.9761), (-4.7124, 4.7124),
    ]
    self.joints = sawyer.map { ($0.0 - 0.05 * abs($0.0))...($0.1 + 0.05 * abs($0.1)) }
  }
}

/// What one picture is reduced to: enough to tell black and frozen ones.
struct PictureDigest: Equatable {
  var mean: Double
  /// FNV-1a over every 7th byte: a live camera's noise changes it; compression of a still scene does too, seldom.
  var hash: UInt64

  init(_ rgb: UnsafeBufferPointer<UInt8>) {
    var sum = 0
    var count = 0
    var hash: UInt64 = 14_695_981_039_346_656_037
    var index = 1
    while index < rgb.count {
      sum += Int(rgb[index])
      count += 1
      hash = (hash ^ UInt64(rgb[index])) &* 1_099_511_628_211
      // Coprime to 3, so all channels take part.
      index += 7
    }
    self.mean = count > 0 ? Double(sum) / Double(count) : 0
    self.hash = hash
  }
}

/// The checks that a trial passes before it may train a policy.
public enum QualityCheck {
  /// Everything that is wrong with a trial, in the order of ``QualityReason``; empty for a good one.
  public static func reasons(for trial: TrialRecord, limits: QualityLimits = .init()) -> [QualityReason] {
    var reasons: Set<QualityReason> = []
    guard let header = trial.header, let end = trial.end, Self.isWellFormed(trial),
      trial.stepCount <= limits.maximumSteps
    else { return [.schema] }
    let steps = trial.steps
    if end.outcome != .success && end.outcome != .failure && end.outcome != .aborted {
      reasons.insert(.schema)
    }
    if header.task.isEmpty || UInt32(steps.count) != end.steps { reasons.insert(.schema) }
    if steps.isEmpty { reasons.insert(.empty) }
    for (index, step) in steps.enumerated() {
      if step.index != UInt32(index) || (index > 0 && step.elapsedNanos < steps[index - 1].elapsedNanos) {
        reasons.insert(.stepGap)
      }
      reasons.formUnion(Self.reasons(for: step, limits: limits))
    }
    reasons.formUnion(Self.imageReasons(for: trial, header: header, steps: steps, limits: limits))
    return QualityReason.allCases.filter(reasons.contains)
  }

  private static func isWellFormed(_ trial: TrialRecord) -> Bool {
    trial.events.enumerated().allSatisfy { index, event in
      guard event.number == UInt32(index), event.robot == trial.robot, event.trialID == trial.trialID else {
        return false
      }
      switch event.event {
      case .header: return index == 0
      case .end: return index == trial.events.count - 1
      case .steps, .video: return index > 0
      case nil: return false
      }
    }
  }

  static func reasons(for step: TrialStep, limits: QualityLimits) -> Set<QualityReason> {
    var reasons: Set<QualityReason> = []
    if step.jointAngles.count != limits.joints.count || step.action.count != 4
      || !(step.expertAction.isEmpty || step.expertAction.count == 4)
    {
      reasons.insert(.schema)
    }
    let numbers = step.jointAngles + step.action + step.expertAction + [step.gripper]
    guard numbers.allSatisfy(\.isFinite) else { return reasons.union([.notFinite]) }
    if zip(step.jointAngles, limits.joints).contains(where: { !$1.contains($0) }) {
      reasons.insert(.jointLimit)
    }
    let limit = 1 + limits.actionTolerance
    if (step.action + step.expertAction).contains(where: { abs($0) > limit }) { reasons.insert(.actionLimit) }
    return reasons
  }

  private static func imageReasons(
    for trial: TrialRecord, header: TrialHeader, steps: [TrialStep], limits: QualityLimits
  ) -> Set<QualityReason> {
    guard header.imageHeight <= limits.maximumImageSide, header.imageWidth <= limits.maximumImageSide else {
      return [.imageSize]
    }
    let expected = Int(header.imageHeight) * Int(header.imageWidth) * 3
    let videos = trial.videos
    // What videos say of themselves is held against the steps before anything is decoded: decoding costs by what they say.
    var frames = 0
    for video in videos {
      guard video.width == header.imageWidth, video.height == header.imageHeight,
        Int(video.firstStep) == frames, video.frames > 0, Int(video.frames) <= steps.count - frames
      else { return [.imageSize] }
      frames += Int(video.frames)
    }
    guard videos.isEmpty || frames == steps.count, frames * expected <= limits.maximumDecodedBytes else {
      return [.imageSize]
    }
    var digests: [PictureDigest] = []
    for video in videos {
      do {
        try VideoDecoder.forEachFrame(of: video) { _, frame in digests.append(PictureDigest(frame)) }
      } catch {
        return [.video]
      }
    }
    if digests.isEmpty {
      guard steps.allSatisfy({ $0.image.count == expected }), expected > 0 else { return [.imageSize] }
      digests = steps.map { $0.image.withUnsafeBufferPointer { PictureDigest($0) } }
    }
    guard digests.count == steps.count else { return [.video] }
    return Self.cameraReasons(digests, steps: steps, limits: limits)
  }

  static func cameraReasons(
    _ digests: [PictureDigest], steps: [TrialStep], limits: QualityLimits
  ) -> Set<QualityReason> {
    var reasons: Set<QualityReason> = []
    let black = digests.count { $0.mean < limits.blackLevel }
    if black * 2 > digests.count { reasons.insert(.blackCamera) }
    var moving = 0
    var frozen = 0
    for index in steps.indices.dropFirst() {
      let moved = zip(steps[index].jointAngles, steps[index - 1].jointAngles)
        .contains { abs($0 - $1) > limits.movement }
      guard moved else { continue }
      moving += 1
      if digests[index].hash == digests[index - 1].hash { frozen += 1 }
    }
    if moving >= 5, Double(frozen) > limits.frozenShare * Double(moving) { reasons.insert(.frozenCamera) }
    return reasons
  }
}
