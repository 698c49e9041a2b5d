import Foundation

extension SchemaRegistry {
  /// The serialized `google.protobuf.FileDescriptorSet` of a message's file and all that it imports, imports first.
  ///
  /// - Parameter name: full name of a message, e.g. "fleetloop.v1.TrialEvent".
  /// - Returns: nil for a name that is no message of `proto/`.
  public static func fileDescriptorSet(for name: String) -> [UInt8]? {
    guard let file = self.fileOfType[name] else { return nil }
    var bytes: [UInt8] = []
    for file in self.withImports(file) {
      guard let text = self.descriptors[file], let descriptor = Data(base64Encoded: text) else { return nil }
      // FileDescriptorSet.file is field 1, length-delimited.
      bytes.append(0x0A)
      var length = descriptor.count
      while length > 0x7F {
        bytes.append(UInt8(length & 0x7F) | 0x80)
        length >>= 7
      }
      bytes.append(UInt8(length))
      bytes += descriptor
    }
    return bytes
  }

  private static func withImports(_ file: String) -> [String] {
    var files: [String] = []
    for name in (self.imports[file] ?? []).flatMap(self.withImports) + [file] where !files.contains(name) {
      files.append(name)
    }
    return files
  }
}
