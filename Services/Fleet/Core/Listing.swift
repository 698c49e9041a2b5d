import Foundation
import ServiceKit

/// What a listing command prints: a table, or JSON.
struct Listing {
  var columns: [String]
  var rows: [[String]]

  /// - Parameter json: printed instead of the table where it is there.
  func show(json: (any Encodable)?) throws {
    guard let json else {
      var table = TextTable(self.columns)
      table.rows = self.rows
      return try Self.show(table.render(), json: nil)
    }
    try Self.show(json: json)
  }

  /// What an action did: a text for people, a sentence or lines, or JSON.
  static func show(_ text: String, json: (any Encodable)?) throws {
    guard let json else {
      return print(VisibleText.of(text, lines: true), terminator: text.hasSuffix("\n") ? "" : "\n")
    }
    try self.show(json: json)
  }

  static func show(json: any Encodable) throws { print(try self.text(json: json)) }

  static func text(json: any Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return VisibleText.of(json: String(decoding: try encoder.encode(AnyEncodable(json)), as: UTF8.self))
  }

  private struct AnyEncodable: Encodable {
    let value: any Encodable
    init(_ value: any Encodable) { self.value = value }
    func encode(to encoder: any Encoder) throws { try self.value.encode(to: encoder) }
  }
}

/// Times as people read them.
enum TimeText {
  /// "2026-11-23 18:04:05", UTC; "–" for 0.
  static func date(_ unixNanos: Int64) -> String {
    guard unixNanos > 0 else { return "–" }
    return Date(timeIntervalSince1970: Double(unixNanos) * 1e-9)
      .formatted(
        .iso8601.year().month().day().dateTimeSeparator(.space).time(includingFractionalSeconds: false))
  }

  /// "12 s ago", "3 min ago", "5 h ago", "2 d ago"; "never" for 0.
  static func ago(_ unixNanos: Int64, now: Date = .now) -> String {
    guard unixNanos > 0 else { return "never" }
    return Self.span(now.timeIntervalSince1970 - Double(unixNanos) * 1e-9) + " ago"
  }

  /// "12 s", "3 min", "5 h", "2 d", rounded down.
  static func span(_ seconds: Double) -> String {
    switch max(0, seconds) {
    case ..<120: "\(Int(max(0, seconds))) s"
    case ..<7_200: "\(Int(seconds / 60)) min"
    case ..<172_800: "\(Int(seconds / 3_600)) h"
    default: "\(Int(min(seconds, 1e12) / 86_400)) d"
    }
  }

  /// Reads "90s", "30m", "2h", "7d" before `now`, or a date, "2026-11-24", "2026-11-24T10:00" or "2026-11-24T10:00:30", UTC.
  /// - Returns: Unix nanoseconds; nil for any other text.
  static func past(_ text: String, now: Date = .now) -> Int64? {
    let units: [Character: Double] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
    if let unit = text.last.flatMap({ units[$0] }), let count = Double(text.dropLast()), count >= 0,
      count * unit < 1e9
    {
      return Int64((now.timeIntervalSince1970 - count * unit) * 1e9)
    }
    for rest in ["", ":00", "T00:00:00"] {
      if let date = try? Date(text + rest + "Z", strategy: .iso8601) {
        return Int64(date.timeIntervalSince1970 * 1e9)
      }
    }
    return nil
  }
}
