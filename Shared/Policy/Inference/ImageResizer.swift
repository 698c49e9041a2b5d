internal import CTorch

/// One way to make an image as small as a network wants it, the same in training and on a robot.
public enum ImageResizer {
  /// Largest side that is taken, in pixels.
  public static let maximumSide = 4_096

  /// Resizes to a square: the mean over each block of pixels where the sizes divide, else bilinear.
  /// - Parameters:
  ///   - image: RGB, height x width x 3 bytes, top row first.
  /// - Throws: ``PolicyError`` `.invalidInput` for another number of bytes.
  public static func resize(
    _ image: [UInt8], height: Int, width: Int, to size: Int
  ) throws(PolicyError) -> [UInt8] {
    try self.check(bytes: image.count, height: height, width: width)
    guard height != size || width != size else { return image }
    return [UInt8](unsafeUninitializedCapacity: size * size * 3) { buffer, count in
      ct_resize(image, Int32(height), Int32(width), buffer.baseAddress!, Int32(size))
      count = size * size * 3
    }
  }

  /// The same into memory of the caller.
  /// - Parameter target: size x size x 3 bytes.
  public static func resize(
    _ image: UnsafeBufferPointer<UInt8>, height: Int, width: Int, to size: Int,
    into target: UnsafeMutableBufferPointer<UInt8>
  ) throws(PolicyError) {
    try self.check(bytes: image.count, height: height, width: width)
    guard target.count == size * size * 3 else {
      throw PolicyError(.invalidInput, "The target of a resize has \(target.count) bytes.")
    }
    ct_resize(image.baseAddress!, Int32(height), Int32(width), target.baseAddress!, Int32(size))
  }

  /// - Throws: ``PolicyError`` `.invalidInput` for sizes that are no image's.
  static func check(bytes: Int, height: Int, width: Int) throws(PolicyError) {
    guard (1...self.maximumSide).contains(height), (1...self.maximumSide).contains(width) else {
      throw PolicyError(
        .invalidInput,
        "An image is \(height) x \(width) pixels; each side must be 1 to \(self.maximumSide).")
    }
    guard bytes == height * width * 3 else {
      throw PolicyError(
        .invalidInput,
        "An image has \(bytes) bytes; \(height) x \(width) RGB pixels are \(height * width * 3).")
    }
  }
}
