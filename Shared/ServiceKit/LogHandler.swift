import Foundation
import Logging
import Synchronization

/// Writes one line a message to standard error: time, level, service, text, then metadata as key=value in the order of the keys.
struct LineLogHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level
  private let label: String

  init(label: String, level: Logger.Level) {
    self.label = label
    self.logLevel = level
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { self.metadata[key] }
    set { self.metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let merged = self.metadata.merging(event.metadata ?? [:]) { _, new in new }
    var line = "\(Date.now.formatted(.iso8601.time(includingFractionalSeconds: true))) "
    line += "\(event.level) \(self.label): \(VisibleText.of("\(event.message)"))"
    for (key, value) in merged.sorted(by: { $0.key < $1.key }) {
      line += " \(VisibleText.of(key))=\(Self.quoted("\(value)"))"
    }
    if let error = event.error { line += " error=\(Self.quoted("\(error)"))" }
    Self.write(line + "\n")
  }

  /// One write call a line: lines of several threads do not mix.
  private static func write(_ line: String) {
    try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
  }

  /// A value that is no single word is in quotes; whatever it has, it stays one value on one line.
  static func quoted(_ value: String) -> String {
    let scalars = value.unicodeScalars
    let bare =
      !scalars.isEmpty
      && scalars.allSatisfy { !$0.properties.isWhitespace && $0 != "\"" && !VisibleText.commands($0) }
    guard !bare else { return value }
    var escaped = String.UnicodeScalarView()
    for scalar in scalars {
      if scalar == "\\" || scalar == "\"" { escaped.append("\\") }
      escaped.append(scalar)
    }
    return "\"\(VisibleText.of(String(escaped)))\""
  }
}
