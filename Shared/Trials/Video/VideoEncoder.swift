internal import CVideo
public import Schemas

/// Encodes the images of one trial as H.264 (Annex B, 4:2:0, one group of pictures every 64 frames).
///
/// Not `Sendable`: one task or thread owns it. A frame of 224 x 224 takes about a millisecond, so call it off the cooperative pool.
public final class VideoEncoder {
  /// x264's constant rate factor: colours of small goal markers survive, a frame takes about 1 KB.
  public static let defaultQuality: Int32 = 20

  private let handle: OpaquePointer
  private let width: Int
  private let height: Int
  private var bytes: [UInt8] = []
  private var frames: UInt32 = 0
  private var finished = false

  /// - Parameters:
  ///   - width: pixels, even, 16 … 4096; `height` likewise.
  /// - Throws: ``TrialsError`` `.video`.
  public init(
    width: Int, height: Int, framesPerSecond: Double = 20, quality: Int32 = defaultQuality
  ) throws(TrialsError) {
    var handle: OpaquePointer?
    guard
      cv_encoder_create(Int32(clamping: width), Int32(clamping: height), framesPerSecond, quality, &handle)
        == 0,
      let handle
    else { throw .video() }
    self.handle = handle
    self.width = width
    self.height = height
  }

  deinit { cv_encoder_destroy(self.handle) }

  /// Bytes that the images so far take.
  public var encodedBytes: Int { self.bytes.count }

  /// Adds one image.
  /// - Parameter image: RGB, width x height x 3 bytes, top row first.
  /// - Throws: ``TrialsError`` `.video`, also for an image of another size.
  public func append(_ image: [UInt8]) throws(TrialsError) {
    guard image.count == self.width * self.height * 3, !self.finished else {
      throw TrialsError(
        .video, "An image of \(image.count) bytes does not fit a \(self.width) x \(self.height) video.")
    }
    let status = withUnsafeMutablePointer(to: &self.bytes) {
      cv_encoder_add(self.handle, image, collectBytes, $0)
    }
    guard status == 0 else { throw .video() }
    self.frames += 1
  }

  /// Ends the video.
  /// - Parameter firstStep: step of its first image.
  public func finish(firstStep: UInt32 = 0) throws(TrialsError) -> TrialVideo {
    self.finished = true
    let status = withUnsafeMutablePointer(to: &self.bytes) {
      cv_encoder_finish(self.handle, collectBytes, $0)
    }
    guard status == 0 else { throw .video() }
    return TrialVideo(
      codec: "h264", firstStep: firstStep, frames: self.frames, width: UInt32(self.width),
      height: UInt32(self.height), data: self.bytes)
  }

  /// Encodes images at once.
  public static func encode(
    _ images: [[UInt8]], width: Int, height: Int, firstStep: UInt32 = 0, quality: Int32 = defaultQuality
  ) throws(TrialsError) -> TrialVideo {
    let encoder = try VideoEncoder(width: width, height: height, quality: quality)
    for image in images { try encoder.append(image) }
    return try encoder.finish(firstStep: firstStep)
  }
}

private func collectBytes(_ context: UnsafeMutableRawPointer?, _ bytes: UnsafePointer<UInt8>?, _ count: Int)
  -> Int32
{
  context?.assumingMemoryBound(to: [UInt8].self).pointee.append(
    contentsOf: UnsafeBufferPointer(start: bytes, count: count))
  return 0
}

extension TrialsError {
  static func video() -> TrialsError { TrialsError(.video, "Video: \(String(cString: cv_last_error())).") }
}
