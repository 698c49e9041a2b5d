internal import Crypto
public import Foundation

/// Durable files in which any damaged byte is found: a line with the SHA-256 of the content, in hexadecimal, then the content.
///
/// For what is dangerous to misread. A flipped bit may leave a format that can be read and says something else: a JSON key
/// that is not known is a value that is missing.
public enum CheckedFile {
  /// Bytes before the content.
  private static let headerSize = 2 * SHA256.Digest.byteCount + 1

  /// Writes as ``DurableFile/write(_:to:mode:on:)`` does.
  /// - Throws: ``StorageError`` `.diskFull` or `.fileSystem`.
  public static func write(
    _ content: some DataProtocol, to path: String, mode: UInt32 = 0o644, on disk: any Disk = SystemDisk()
  ) throws(StorageError) {
    try DurableFile.write(Self.header(of: content) + content, to: path, mode: mode, on: disk)
  }

  /// Reads the content of a whole file.
  /// - Parameter limit: bytes that the content may have.
  /// - Throws: ``StorageError`` `.notFound`, `.tooLarge`, `.fileSystem`, or `.corrupt` where the file is not as it was written.
  public static func read(
    _ path: String, limit: Int, on disk: any Disk = SystemDisk()
  ) throws(StorageError) -> [UInt8] {
    let bytes = try DurableFile.read(path, limit: limit + Self.headerSize, on: disk)
    let content = bytes.dropFirst(Self.headerSize)
    guard bytes.starts(with: Self.header(of: content)) else {
      throw StorageError(
        .corrupt, "\(path) is damaged: its content does not have the hash that it begins with.")
    }
    return Array(content)
  }

  private static func header(of content: some DataProtocol) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return SHA256.hash(data: content).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 0xF)]] }
      + [UInt8(ascii: "\n")]
  }
}
