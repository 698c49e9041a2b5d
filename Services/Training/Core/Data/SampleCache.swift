import Foundation

/// Images of a dataset in a file without a name: gone when the process ends, however it ends, and evicted from memory by
/// the kernel when memory is short.
///
/// Written first, then sealed and read.
// Sendable is unchecked because of the mapping: after `seal` it is never written again, and only then is it shared.
final class SampleCache: @unchecked Sendable {
  /// Bytes of one image.
  let imageBytes: Int
  let limit: Int
  private let file: Int32
  private(set) var count = 0
  private var mapping: UnsafeMutableRawPointer?

  /// - Parameter limit: bytes of the file at most.
  /// - Throws: ``TrainingError`` `.storage`.
  init(folder: String, imageBytes: Int, limit: Int) throws {
    self.imageBytes = imageBytes
    self.limit = limit
    let path = "\(folder)/images-\(UUID().uuidString)"
    self.file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard self.file >= 0 else { throw Self.failure("make", path) }
    unlink(path)
  }

  deinit {
    if let mapping { munmap(mapping, self.count * self.imageBytes) }
    close(self.file)
  }

  /// Adds whole images.
  /// - Throws: ``TrainingError`` `.storage`; `.tooLarge` beyond ``limit``.
  func append(_ images: [UInt8]) throws {
    precondition(self.mapping == nil && images.count.isMultiple(of: self.imageBytes))
    guard (self.count * self.imageBytes) + images.count <= self.limit else {
      throw TrainingError(
        .tooLarge,
        "The images of the dataset exceed \(self.limit) bytes. Raise training.cache-megabytes, or narrow the query."
      )
    }
    try images.withUnsafeBytes { bytes in
      var offset = 0
      while offset < bytes.count {
        let written = write(self.file, bytes.baseAddress! + offset, bytes.count - offset)
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw Self.failure("write", "the image cache") }
        offset += written
      }
    }
    self.count += images.count / self.imageBytes
  }

  /// Ends writing; reading may begin.
  func seal() throws {
    guard self.count > 0 else { return }
    let mapped = mmap(nil, self.count * self.imageBytes, PROT_READ, MAP_SHARED, self.file, 0)
    guard let mapped, mapped != MAP_FAILED else { throw Self.failure("map", "the image cache") }
    // Steps read at random: reading ahead would only push out what is needed.
    madvise(mapped, self.count * self.imageBytes, MADV_RANDOM)
    self.mapping = mapped
  }

  func image(_ index: Int) -> UnsafeRawBufferPointer {
    precondition(index >= 0 && index < self.count)
    return UnsafeRawBufferPointer(start: self.mapping! + index * self.imageBytes, count: self.imageBytes)
  }

  private static func failure(_ action: String, _ what: String) -> TrainingError {
    let reason = String(cString: strerror(errno))
    return TrainingError(
      .storage, "Cannot \(action) \(what): \(reason). Check the folder training.data and its free space.")
  }
}
