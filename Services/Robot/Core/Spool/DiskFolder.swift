import Foundation

/// Small files and folders, written so that a crash leaves the old or the new content and nothing between.
enum DiskFolder {
  static func make(_ path: String) throws(RobotError) {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw RobotError(.diskFailed, "Cannot make the folder \(path).", cause: error)
    }
  }

  static func names(_ path: String) throws(RobotError) -> [String] {
    do {
      return try FileManager.default.contentsOfDirectory(atPath: path)
    } catch {
      throw RobotError(.diskFailed, "Cannot read the folder \(path).", cause: error)
    }
  }

  /// 0 where there is no such file.
  static func size(_ path: String) -> UInt64 {
    var status = stat()
    return stat(path, &status) == 0 ? UInt64(status.st_size) : 0
  }

  static func freeBytes(_ path: String) -> UInt64 {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return 0 }
    return UInt64(status.f_bavail) * UInt64(status.f_frsize)
  }

  static func move(_ path: String, to destination: String) throws(RobotError) {
    guard rename(path, destination) == 0 else { throw SpoolFile.failure("move", path, errno: errno) }
  }

  /// Makes the names in a folder survive a power cut.
  static func synchronize(_ path: String) throws(RobotError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw SpoolFile.failure("open", path, errno: errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw SpoolFile.failure("sync", path, errno: errno) }
  }

  /// Nil where there is no such file, or no such value in it: a damaged file must not keep a robot from starting.
  static func readJSON<Value: Decodable>(_ type: Value.Type, _ path: String) throws(RobotError) -> Value? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return try? JSONDecoder().decode(type, from: data)
  }

  static func writeJSON(_ value: some Encodable, _ path: String) throws(RobotError) {
    do {
      try self.replace(path, with: JSONEncoder().encode(value))
    } catch let error as RobotError {
      throw error
    } catch {
      throw RobotError(.diskFailed, "Cannot encode \(path).", cause: error)
    }
  }

  static func replace(_ path: String, with data: Data) throws(RobotError) {
    do {
      try data.write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw RobotError(.diskFailed, "Cannot write \(path).", cause: error)
    }
  }

  /// For a note to a person, whose loss does no harm.
  static func write(_ text: String, to path: String) {
    try? Data(text.utf8).write(to: URL(filePath: path))
  }
}
