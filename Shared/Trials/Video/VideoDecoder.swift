internal import CVideo
public import Schemas

/// Decodes the images of one trial. Streams are not trusted: sizes and counts are checked before a picture is decoded, so that
/// no video costs more than it says, and a bad one is an error.
public enum VideoDecoder {
  /// Largest video that is decoded, in bytes.
  public static let maximumBytes = 64 << 20

  /// All images of a video.
  /// - Returns: RGB, width x height x 3 bytes each, top row first; `video.frames` of them.
  /// - Throws: ``TrialsError`` `.video`.
  public static func decode(_ video: TrialVideo) throws(TrialsError) -> [[UInt8]] {
    var frames: [[UInt8]] = []
    frames.reserveCapacity(Int(min(video.frames, 10_000)))
    try self.forEachFrame(of: video) { _, frame in frames.append(Array(frame)) }
    return frames
  }

  /// Hands each image to `body` without keeping it.
  /// - Parameter body: index from 0, and RGB bytes that are valid only during the call.
  public static func forEachFrame(
    of video: TrialVideo, _ body: (Int, UnsafeBufferPointer<UInt8>) -> Void
  ) throws(TrialsError) {
    guard video.codec == "h264" else {
      throw TrialsError(.video, "A video is '\(video.codec)'; only 'h264' is known.")
    }
    guard video.data.count <= Self.maximumBytes else {
      throw TrialsError(
        .video, "A video has \(video.data.count) bytes; at most \(Self.maximumBytes) are decoded.")
    }
    var handle: OpaquePointer?
    guard
      cv_decoder_create(
        Int32(clamping: video.width), Int32(clamping: video.height), Int32(clamping: video.frames), &handle)
        == 0,
      let handle
    else { throw .video() }
    defer { cv_decoder_destroy(handle) }
    let status = withoutActuallyEscaping(body) { body in
      var sink = FrameSink(limit: Int(video.frames), body: body)
      let status = withUnsafeMutablePointer(to: &sink) { sink in
        let fed = cv_decoder_feed(handle, video.data, video.data.count, passFrame, sink)
        return fed == 0 ? cv_decoder_finish(handle, passFrame, sink) : fed
      }
      return (status, sink.count)
    }
    guard status.0 == 0 else { throw .video() }
    guard status.1 == Int(video.frames) else {
      throw TrialsError(.video, "A video says \(video.frames) images and holds \(status.1).")
    }
  }
}

private struct FrameSink {
  let limit: Int
  let body: (Int, UnsafeBufferPointer<UInt8>) -> Void
  var count = 0
}

private func passFrame(_ context: UnsafeMutableRawPointer?, _ bytes: UnsafePointer<UInt8>?, _ count: Int)
  -> Int32
{
  guard let sink = context?.assumingMemoryBound(to: FrameSink.self) else { return -1 }
  guard sink.pointee.count < sink.pointee.limit else { return -1 }
  sink.pointee.body(sink.pointee.count, UnsafeBufferPointer(start: bytes, count: count))
  sink.pointee.count += 1
  return 0
}
