import Foundation

/// A folder that goes when the test does.
public final class TemporaryFolder: Sendable {
  public let path: String

  public init() throws {
    // Short: the path of an ipc socket has 107 bytes at most.
    self.path = "/tmp/fl-\(UUID().uuidString.prefix(13))"
    try FileManager.default.createDirectory(atPath: self.path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: self.path) }

  /// Names in a folder below, sorted.
  public func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "\(self.path)/\(folder)").sorted()
  }
}
