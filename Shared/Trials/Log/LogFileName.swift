/// The name of a log file: `trials-########.mcap`, numbered from 1. Whatever else lies in the folder is none of the log's.
struct LogFileName: Hashable, Comparable {
  static let maximumNumber = 99_999_999

  var number: Int

  init(number: Int) { self.number = number }

  /// Nil where the text is no such name to the letter.
  init?(_ text: String) {
    guard text.utf8.count == 20, text.hasPrefix("trials-"), text.hasSuffix(".mcap") else { return nil }
    let digits = text.utf8.dropFirst(7).prefix(8)
    guard digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    self.number = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    guard self.number > 0 else { return nil }
  }

  var text: String {
    let digits = String(self.number)
    return "trials-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits + ".mcap"
  }

  /// - Throws: ``TrialsError`` `.fileSystem` behind the last name that there is.
  func next() throws(TrialsError) -> LogFileName {
    guard self.number < Self.maximumNumber else {
      throw TrialsError(
        .fileSystem, "\(self.text) is the last name of a log file; move the log aside and begin a new one.")
    }
    return LogFileName(number: self.number + 1)
  }

  static func < (left: Self, right: Self) -> Bool { left.number < right.number }
}
