/// What happened in a simulation, in order, as one number: two runs of a seed that differ anywhere differ here.
public struct EventTrace: Sendable {
  public private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  public private(set) var count = 0
  /// Hears each event in words; nil for silence, which costs nothing.
  public var listener: (@Sendable (String) -> Void)?

  public init() {}

  mutating func add(_ number: UInt64) {
    self.hash = Self.mixed(self.hash, number)
    self.count += 1
  }

  mutating func add(_ text: String) {
    var text = text
    let hash = self.hash
    self.hash = text.withUTF8 { bytes in
      var (hash, offset) = (hash ^ UInt64(bytes.count), 0)
      let raw = UnsafeRawBufferPointer(bytes)
      while offset + 8 <= raw.count {
        hash = Self.mixed(hash, raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        offset += 8
      }
      while offset < raw.count {
        hash = Self.mixed(hash, UInt64(raw[offset]))
        offset += 1
      }
      return hash
    }
    self.count += 1
  }

  private static func mixed(_ hash: UInt64, _ number: UInt64) -> UInt64 {
    let mixed = (hash ^ number) &* 0x9E37_79B9_7F4A_7C15
    return mixed ^ (mixed >> 32)
  }
}
