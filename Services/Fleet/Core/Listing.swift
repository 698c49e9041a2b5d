import Foundation

/// What a listing command prints: a table, or JSON.
struct Listing {
  var columns: [String]
  var rows: [[String]]

  /// - Parameter json: printed instead of the table where it is there.
  func show(json: (any Encodable)?) {
    guard let json else {
      var table = TextTable(self.columns)
      table.rows = self.rows
      print(table.render(), terminator: "")
      return
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    guard let data = try? encoder.encode(AnyEncodable(json)) else { return }
    print(String(decoding: data, as: UTF8.self))
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

  /// "12 s ago".
  static func ago(_ unixNanos: Int64) -> String {
    guard unixNanos > 0 else { return "never" }
    return "\(Int(max(0, Date.now.timeIntervalSince1970 - Double(unixNanos) * 1e-9))) s ago"
  }
}
