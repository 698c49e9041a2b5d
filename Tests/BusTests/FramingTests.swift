import CPoller
import Testing

/// What the meter charges for the bytes of a connection: see `framing.c`.
@Suite struct FramingTests {
  private static let greeting =
    [0xFF] + [UInt8](repeating: 0, count: 8) + [0x7F, 3] + [UInt8](repeating: 0, count: 53)

  /// - Parameter pieces: as libzmq reads them, one after the other.
  private func charge(_ pieces: [[UInt8]]) -> cpoller_charge {
    var framing = cpoller_framing()
    return pieces.reduce(into: cpoller_charge()) { sum, piece in
      let charge = cpoller_walk(&framing, piece, piece.count)
      sum.bytes += charge.bytes
      sum.frames += charge.frames
    }
  }

  private func frame(_ count: Int) -> [UInt8] { RawConnection.message([[UInt8](repeating: 1, count: count)]) }

  @Test func `each frame is charged with its record besides its bytes, however they are cut`() {
    let frames = [0, 1, 32, 0, 255, 256, 9000].flatMap { self.frame($0) }
    let bytes = Self.greeting + frames
    let whole = self.charge([bytes])
    #expect(whole.frames == 7)
    for size in [1, 2, 3, 7, 64, 65, 100] {
      let pieces = stride(from: 0, to: bytes.count, by: size).map {
        Array(bytes[$0..<min($0 + size, bytes.count)])
      }
      #expect(self.charge(pieces).frames == 7)
    }
    let empty = self.charge([Self.greeting, Array(repeating: self.frame(0), count: 1000).flatMap { $0 }])
    #expect(empty.frames == 1000 && empty.bytes == 64 + 1000 * 66)
    let large = self.charge([Self.greeting, self.frame(1 << 20)])
    #expect(large.frames == 1 && large.bytes == 64 + 9 + (1 << 20) + 64)
  }

  @Test func `a small frame that comes alone keeps the buffer that it was read into`() {
    let alone = self.charge([Self.greeting] + Array(repeating: self.frame(40), count: 100))
    #expect(alone.frames == 100 && alone.bytes >= 100 * (16 << 10))
    let together = self.charge([Self.greeting, Array(repeating: self.frame(40), count: 100).flatMap { $0 }])
    #expect(together.frames == 100 && together.bytes < 100 * 300)
  }

  @Test(arguments: [
    [0x01, 0x00], [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7E], [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1],
  ])
  func `other greetings than ZMTP 3's hide no frames`(start: [UInt8]) {
    // As an older ZMTP has it: a length with the flags, flags.
    let frames = Array(repeating: [1, 1] as [UInt8], count: 50_000).flatMap { $0 }
    let charge = self.charge([start, frames])
    #expect(charge.frames >= 50_000 && charge.bytes >= 50_000 * 64)
  }

  @Test func `no bytes are too strange, and none are charged less than themselves`() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<20 {
      let pieces = (0..<50).map { _ in
        (0..<Int.random(in: 0...300)).map { _ in UInt8.random(in: 0...255, using: &random) }
      }
      for pieces in [pieces, [Self.greeting] + pieces] {
        let charge = self.charge(pieces)
        #expect(charge.bytes >= pieces.reduce(0) { $0 + $1.count } && charge.frames >= 0)
      }
    }
    // A length of 2^64 - 1 never ends.
    let endless = self.charge([
      Self.greeting, [2] + [UInt8](repeating: 0xFF, count: 8), [UInt8](repeating: 0, count: 9000),
    ])
    #expect(endless.frames == 1 && endless.bytes == 64 + 9 + 9000 + 64)
  }
}
