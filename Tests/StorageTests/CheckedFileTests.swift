import Foundation
import Storage
import TestSupport
import Testing

@Suite("CheckedFile")
struct CheckedFileTests {
  private let folder: TemporaryFolder
  private var path: String { "\(self.folder.path)/kept" }

  init() throws { self.folder = try TemporaryFolder() }

  private func code(limit: Int = 100) -> StorageError.Code? {
    do throws(StorageError) {
      _ = try CheckedFile.read(self.path, limit: limit)
      return nil
    } catch { return error.code }
  }

  @Test(arguments: [[], [0], Array("{\"a\":1}\n".utf8)])
  func `content is read as it was written`(content: [UInt8]) throws {
    #expect(self.code() == .notFound)
    try CheckedFile.write(content, to: self.path)
    #expect(try CheckedFile.read(self.path, limit: content.count) == content)
    if !content.isEmpty { #expect(self.code(limit: content.count - 1) == .tooLarge) }
  }

  @Test(arguments: [[], Array("{\"stopReason\":\"a hand\"}".utf8)])
  func `every bit that is turned, every byte cut off and every byte added is found`(content: [UInt8]) throws {
    try CheckedFile.write(content, to: self.path)
    let whole = try DurableFile.read(self.path, limit: 1_000)
    for bit in 0..<whole.count * 8 {
      var damaged = whole
      damaged[bit / 8] ^= 1 << (bit % 8)
      try DurableFile.write(damaged, to: self.path)
      #expect(self.code() == .corrupt, "bit \(bit)")
    }
    for count in 0..<whole.count {
      try DurableFile.write(whole.prefix(count), to: self.path)
      #expect(self.code() == .corrupt, "\(count) bytes")
    }
    try DurableFile.write(whole + [0], to: self.path)
    #expect(self.code() == .corrupt)
    try DurableFile.write(content, to: self.path)
    #expect(self.code() == .corrupt, "a file without its hash")
  }
}
