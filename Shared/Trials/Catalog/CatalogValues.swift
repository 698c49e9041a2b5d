import GRDB

/// A value in the catalog that no version ever wrote there. SQLite keeps a value of any type in any column.
struct MistypedValue: Error, CustomStringConvertible {
  var column: String
  var value: DatabaseValue

  var description: String { "Column \(self.column) holds \(self.value)." }
}

/// GRDB's own subscripts end the process, or take text for 0.
extension Row {
  /// - Throws: ``MistypedValue``.
  func value<Value: DatabaseValueConvertible>(_ column: String, as type: Value.Type = Value.self) throws
    -> Value
  {
    let value: DatabaseValue = self[column]
    guard let result = Value.fromDatabaseValue(value) else {
      throw MistypedValue(column: column, value: value)
    }
    return result
  }

  /// A number of bytes, steps or trials, which sums of a few do not overflow.
  /// - Throws: ``MistypedValue``.
  func count(_ column: String) throws -> Int {
    let count: Int = try self.value(column)
    guard (0...(1 << 53)).contains(count) else { throw MistypedValue(column: column, value: self[column]) }
    return count
  }

  /// Where a trial lies.
  /// - Throws: ``MistypedValue``.
  func position(in file: String? = nil) throws -> LogPosition {
    LogPosition(
      file: try file ?? self.value("file"), offset: try self.count("offset"), length: try self.count("length")
    )
  }

  /// - Throws: ``MistypedValue``.
  func trialName() throws -> (robot: String, trialID: String) {
    (try self.value("robot"), try self.value("trialID"))
  }
}
