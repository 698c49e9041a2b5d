import Foundation
import Storage

/// Does something on the robot's disk.
/// - Throws: ``RobotError`` `.diskFailed`, with what the disk said.
func onDisk<Result>(_ body: () throws(StorageError) -> Result) throws(RobotError) -> Result {
  do throws(StorageError) {
    return try body()
  } catch {
    throw RobotError(.diskFailed, error.message, cause: error)
  }
}

/// What a small file held when it was opened.
enum KeptValue<Value> {
  case absent
  case value(Value)
  /// The file is there and cannot be understood; why.
  case damaged(String)
}

/// A value that is there whole or not at all, also after a power cut, as JSON in a small checked file of its own.
struct KeptFile<Value: Codable & Sendable>: Sendable {
  /// A file larger than this is none of ours.
  private static var limit: Int { 1 << 20 }

  let path: String
  let disk: any Disk

  func read() -> KeptValue<Value> {
    do {
      let bytes = try CheckedFile.read(self.path, limit: Self.limit, on: self.disk)
      return .value(try JSONDecoder().decode(Value.self, from: Data(bytes)))
    } catch let error as StorageError where error.code == .notFound {
      return .absent
    } catch let error as StorageError {
      return .damaged(error.message)
    } catch {
      return .damaged("\(self.path) is damaged.")
    }
  }

  /// - Throws: ``RobotError`` `.diskFailed`.
  func write(_ value: Value) throws(RobotError) {
    let bytes: Data
    do { bytes = try JSONEncoder().encode(value) } catch {
      throw RobotError(.diskFailed, "Cannot encode \(self.path).", cause: error)
    }
    try onDisk { () throws(StorageError) in try CheckedFile.write(bytes, to: self.path, on: self.disk) }
  }
}
