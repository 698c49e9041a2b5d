/// The one rule for names of robots, trials, releases, versions of models and their files: they become parts of topics, of paths
/// and of commands, so that whoever takes one takes what every other part takes.
public enum Names {
  /// The rule in words, for messages.
  public static let rule = "1 to 64 letters, digits, '.', '_' or '-' of ASCII, not first '.'"

  /// Whether a text has 1 to 64 letters, digits, '.', '_' or '-' of ASCII, of which the first is no '.'.
  public static func isValid(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count) && text.utf8.first != UInt8(ascii: ".")
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }
}
