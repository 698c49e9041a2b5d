import RobotCore
import Schemas
import Synchronization
import Trials

/// Videos that were encoded once: simulated robots see the same few pictures again and again.
enum SampleClips {
  static let side = 16
  /// Steps of a trial.
  static let longest = 6

  struct Compressor: ImageCompressor {
    private var images = 0
    /// Clips of these few small pictures have no 100 bytes a picture.
    var bytes: Int { self.images * 100 }

    mutating func add(_ image: [UInt8]) { self.images += 1 }

    mutating func finish(firstStep: UInt32) throws -> TrialVideo {
      var clip = try SampleClips.clip(self.images)
      clip.firstStep = firstStep
      return clip
    }
  }

  private static let clips = Mutex<[Int: TrialVideo]>([:])

  private static func clip(_ images: Int) throws -> TrialVideo {
    try self.clips.withLock { clips in
      if let clip = clips[images] { return clip }
      let pictures = (0..<images).map { Self.picture($0) }
      let clip = try VideoEncoder.encode(pictures, width: Self.side, height: Self.side)
      clips[images] = clip
      return clip
    }
  }

  /// A square that moves.
  private static func picture(_ step: Int) -> [UInt8] {
    (0..<Self.side * Self.side).flatMap { pixel -> [UInt8] in
      abs(pixel % Self.side - step * 2) < 3 ? [230, 40, 90] : [60, 120, 90]
    }
  }
}
