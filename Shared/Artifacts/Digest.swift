internal import Crypto

/// SHA-256 as bytes and text.
public enum Digest {
  /// Bytes of a digest.
  public static let size = 32

  public static func sha256(_ bytes: [UInt8]) -> [UInt8] { Array(SHA256.hash(data: bytes)) }

  /// The digest of bytes that come piece by piece, so that none of them need be held.
  struct Running {
    private var hash = SHA256()

    mutating func add(_ bytes: [UInt8]) { self.hash.update(data: bytes) }
    func finish() -> [UInt8] { Array(self.hash.finalize()) }
  }

  /// Lower-case hexadecimal text.
  public static func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.reduce(into: "") { text, byte in
      text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
  }

  /// Bytes of hexadecimal text; nil for anything else.
  public static func bytes(hex text: String) -> [UInt8]? {
    let digits = text.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
    guard digits.count.isMultiple(of: 2) else { return nil }
    return stride(from: 0, to: digits.count, by: 2).reduce(into: [UInt8]?.some([])) { bytes, index in
      guard let high = digits[index], let low = digits[index + 1] else {
        bytes = nil
        return
      }
      bytes?.append(UInt8(high << 4 | low))
    }
  }
}
