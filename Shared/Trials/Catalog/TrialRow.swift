import Foundation
import GRDB
import Schemas

/// One trial in the catalog.
struct TrialRow: Encodable, FetchableRecord, PersistableRecord, Sendable {
  static let databaseTableName = "trial"
  /// Stands for the reasons of a trial of which the catalog cannot say all any more. The log can.
  static let unreadable = "unreadable in the catalog"
  /// The same for one that is larger than ``TrialLimits`` lets it be: an earlier version stored it.
  static let tooLarge = "too large to list"

  /// Place in the order of storing; the database gives it.
  var number: Int64?
  var robot: String
  var trialID: String
  var facility: String
  var task: String
  var mode: Int32
  var modelVersion: String
  var releaseID: String
  var orderID: String
  var outcome: Int32
  var storedUnixNanos: Int64
  var steps: Int
  var labelledSteps: Int
  var fallbackSteps: Int
  var bytes: Int
  var quarantined: Bool
  /// Words with commas between.
  var reasons: String
  var file: String
  var offset: Int
  var length: Int
  /// Serialized header and end, from which summaries are made.
  var header: Data
  var end: Data

  init(_ trial: TrialRecord, position: LogPosition, reasons: [QualityReason], storedUnixNanos: Int64) {
    let header = trial.header ?? TrialHeader()
    let end = trial.end ?? TrialEnd()
    let steps = trial.steps
    self.robot = trial.robot
    self.trialID = trial.trialID
    self.facility = header.facility
    self.task = header.task
    self.mode = header.mode.rawValue
    self.modelVersion = header.modelVersion
    self.releaseID = header.releaseID
    self.orderID = header.orderID
    self.outcome = end.outcome.rawValue
    self.storedUnixNanos = storedUnixNanos
    self.steps = steps.count
    self.labelledSteps = steps.count { !$0.expertAction.isEmpty }
    self.fallbackSteps = steps.count(where: \.fallback)
    self.bytes = position.length
    self.quarantined = !reasons.isEmpty
    self.reasons = reasons.map(\.rawValue).joined(separator: ",")
    self.file = position.file
    self.offset = position.offset
    self.length = position.length
    (self.header, self.end) = (Data(), Data())
    // What no list could read back would look like damage of the catalog.
    self.header = Data(TrialLimits.readable(header) ?? self.headerOfColumns.serializedBytes())
    self.end = Data(TrialLimits.readable(end) ?? self.endOfColumns.serializedBytes())
  }

  /// What columns say of header and end.
  private var headerOfColumns: TrialHeader {
    TrialHeader(
      trialID: Self.cut(self.trialID), robot: Self.cut(self.robot), facility: Self.cut(self.facility),
      task: Self.cut(self.task), mode: ControlMode(rawValue: self.mode),
      modelVersion: Self.cut(self.modelVersion), releaseID: Self.cut(self.releaseID),
      orderID: Self.cut(self.orderID))
  }

  private var endOfColumns: TrialEnd {
    TrialEnd(outcome: Outcome(rawValue: self.outcome), steps: UInt32(clamping: self.steps))
  }

  var name: TrialName { TrialName(robot: self.robot, trialID: self.trialID) }
  /// Bytes that it takes in memory, and its summary in a list, about.
  var memory: Int { self.header.count + self.end.count + 512 }
  var position: LogPosition { LogPosition(file: self.file, offset: self.offset, length: self.length) }

  /// - Throws: ``MistypedValue``.
  init(row: Row) throws {
    self.number = try row.value("number")
    (self.robot, self.trialID) = try row.trialName()
    self.facility = try row.value("facility")
    self.task = try row.value("task")
    self.mode = try row.value("mode")
    self.modelVersion = try row.value("modelVersion")
    self.releaseID = try row.value("releaseID")
    self.orderID = try row.value("orderID")
    self.outcome = try row.value("outcome")
    self.storedUnixNanos = try row.value("storedUnixNanos")
    self.steps = try row.count("steps")
    self.labelledSteps = try row.count("labelledSteps")
    self.fallbackSteps = try row.count("fallbackSteps")
    self.bytes = try row.count("bytes")
    self.quarantined = try row.value("quarantined")
    self.reasons = try row.value("reasons")
    let position = try row.position()
    (self.file, self.offset, self.length) = (position.file, position.offset, position.length)
    self.header = try row.value("header")
    self.end = try row.value("end")
  }

  /// Where header or end are too large, or cannot be decoded, it says what the columns say, and why: ``tooLarge`` or
  /// ``unreadable``.
  /// - Parameter damage: set where they cannot be decoded.
  func summary(_ damage: inout (any Error)?) -> TrialSummary {
    var summary = TrialSummary(
      bytes: UInt64(self.bytes), storedUnixNanos: self.storedUnixNanos, quarantined: self.quarantined,
      reasons: self.reasons.isEmpty ? [] : self.reasons.split(separator: ",").map(String.init),
      labelledSteps: UInt32(clamping: self.labelledSteps),
      fallbackSteps: UInt32(clamping: self.fallbackSteps), number: UInt64(max(0, self.number ?? 0)))
    var obstacle = Self.tooLarge
    if max(self.header.count, self.end.count) <= TrialLimits.summaryBytes {
      do {
        summary.header = try TrialHeader(serializedBytes: [UInt8](self.header))
        summary.end = try TrialEnd(serializedBytes: [UInt8](self.end))
        // Each of them may take more than both may together.
        if TrialLimits.readable(summary) != nil { return summary }
      } catch {
        damage = error
        obstacle = Self.unreadable
      }
    }
    (summary.header, summary.end) = (self.headerOfColumns, self.endOfColumns)
    summary.reasons.append(obstacle)
    return summary
  }

  private static func cut(_ text: String) -> String {
    text.utf8.count <= TrialLimits.textBytes
      ? text : String(decoding: text.utf8.prefix(TrialLimits.textBytes), as: UTF8.self)
  }
}

extension TrialQuery {
  /// The query as an SQL condition over table `trial`.
  var condition: (sql: String, arguments: StatementArguments) {
    var parts: [String] = []
    var arguments: [any DatabaseValueConvertible] = []
    func among(_ column: String, _ values: [any DatabaseValueConvertible]) {
      guard !values.isEmpty else { return }
      parts.append("\(column) IN (\(Array(repeating: "?", count: values.count).joined(separator: ",")))")
      arguments += values
    }
    among("robot", self.robots)
    among("task", self.tasks)
    among("modelVersion", self.modelVersions)
    among("releaseID", self.releaseIDs)
    among("orderID", self.orderIDs)
    among("mode", self.modes.map(\.rawValue))
    among("outcome", self.outcomes.map(\.rawValue))
    if self.afterNumber > 0 {
      parts.append("number > ?")
      arguments.append(Int64(clamping: self.afterNumber))
    }
    if self.storedFromUnixNanos > 0 {
      parts.append("storedUnixNanos >= ?")
      arguments.append(self.storedFromUnixNanos)
    }
    if self.storedUntilUnixNanos > 0 {
      parts.append("storedUnixNanos < ?")
      arguments.append(self.storedUntilUnixNanos)
    }
    if self.trainableOnly {
      // Successful demonstrations, and whatever an expert labelled.
      parts.append("((mode = ? AND outcome = ?) OR (mode = ? AND labelledSteps > 0))")
      arguments += [
        ControlMode.demonstration.rawValue, Outcome.success.rawValue, ControlMode.labelledPolicy.rawValue,
      ]
    }
    // A quarantined trial never trains, whatever else is asked for.
    if !self.includeQuarantined || self.trainableOnly { parts.append("NOT quarantined") }
    return (parts.isEmpty ? "1" : parts.joined(separator: " AND "), StatementArguments(arguments))
  }
}
