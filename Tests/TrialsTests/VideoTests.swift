import Foundation
import Schemas
import Testing

@testable import Trials

@Suite("Video")
struct VideoTests {
  @Test func `a trial's images survive H.264`() throws {
    let images = (0..<70).map { SampleTrial.image($0) }
    let video = try VideoEncoder.encode(images, width: SampleTrial.side, height: SampleTrial.side)
    #expect(video.frames == 70)
    #expect(video.data.count * 10 < images.count * images[0].count)
    let decoded = try VideoDecoder.decode(video)
    #expect(decoded.count == images.count)
    for (image, copy) in zip(images, decoded) {
      let error =
        zip(image, copy).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) } / Double(image.count)
      // Peak signal-to-noise ratio in dB; sharp coloured edges cost some in 4:2:0.
      #expect(10 * log10(255 * 255 / max(error, 1e-9)) > 26)
    }
  }

  @Test func `images of another size are refused`() throws {
    let encoder = try VideoEncoder(width: 64, height: 64)
    #expect(throws: TrialsError.self) { try encoder.append([1, 2, 3]) }
    #expect(throws: TrialsError.self) { _ = try VideoEncoder(width: 3, height: 64) }
  }

  @Test func `pictures of another size than a video says are refused before they are decoded`() throws {
    let image = [UInt8](repeating: 40, count: 1024 * 1024 * 3)
    var video = try VideoEncoder.encode([image, image], width: 1024, height: 1024)
    // Sizes that are no whole number of macroblocks are decoded, and none larger.
    for (width, height) in [(16, 16), (1024, 512), (960, 1024), (1024, 990)] as [(UInt32, UInt32)] {
      (video.width, video.height) = (width, height)
      let error = #expect(throws: TrialsError.self) { try VideoDecoder.decode(video) }
      // What a decoded picture of another size would be called.
      #expect(
        error?.message.contains("another size") == false, "\(width) x \(height): \(error?.message ?? "")")
    }
    for side in [18, 34, 50] {
      let images = (0..<2).map { SampleTrial.image($0, side: side) }
      let odd = try VideoEncoder.encode(images, width: side, height: side)
      #expect(try VideoDecoder.decode(odd).count == 2)
    }
  }

  @Test func `pictures that never come out are not decoded for ever`() throws {
    let encoder = try VideoEncoder(width: 64, height: 64)
    for step in 0..<60 { try encoder.append(SampleTrial.image(step)) }
    var video = try encoder.finish()
    // Without the picture that all others refer to, none comes out.
    video.data = try Self.withoutKeyPicture(video.data)
    video.frames = 1
    let error = #expect(throws: TrialsError.self) { try VideoDecoder.decode(video) }
    #expect(error?.message.contains("more pictures") == true, "\(error?.message ?? "")")
  }

  /// Drops the slices of type 5, which are whole pictures.
  private static func withoutKeyPicture(_ stream: [UInt8]) throws -> [UInt8] {
    var units: [[UInt8]] = []
    for index in stream.indices.dropLast(3) {
      if stream[index...].starts(with: [0, 0, 1]) { units.append([]) }
      if units.isEmpty { continue }
      units[units.count - 1].append(stream[index])
    }
    let hasKey = units.contains { $0[3] & 31 == 5 }
    try #require(hasKey)
    return Array(units.filter { $0[3] & 31 != 5 }.joined()) + stream.suffix(3)
  }

  @Test func `hostile streams are errors`() throws {
    let good = try VideoEncoder.encode((0..<8).map { SampleTrial.image($0) }, width: 64, height: 64)
    var generator = SystemRandomNumberGenerator()
    var wrong = good
    wrong.width = 32
    #expect(throws: TrialsError.self) { try VideoDecoder.decode(wrong) }
    wrong = good
    wrong.frames = 9
    #expect(throws: TrialsError.self) { try VideoDecoder.decode(wrong) }
    wrong = good
    wrong.data.removeLast(wrong.data.count / 2)
    #expect(throws: TrialsError.self) { try VideoDecoder.decode(wrong) }
    wrong.data = (0..<500).map { _ in UInt8.random(in: 0...255, using: &generator) }
    #expect(throws: TrialsError.self) { try VideoDecoder.decode(wrong) }
    wrong.codec = "mpeg2"
    #expect(throws: TrialsError.self) { try VideoDecoder.decode(wrong) }
    for _ in 0..<200 {
      var mutated = good
      for _ in 0..<4 {
        mutated.data[Int.random(in: 0..<mutated.data.count)] = UInt8.random(in: 0...255)
      }
      // Either it decodes to as many images, or it is an error; it never crashes.
      if let frames = try? VideoDecoder.decode(mutated) { #expect(frames.count == 8) }
    }
  }
}
