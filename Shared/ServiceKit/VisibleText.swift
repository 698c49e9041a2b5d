/// Text of others, robots' for instance, as a terminal or a log may show it: it neither moves the cursor nor begins a line.
public enum VisibleText {
  /// With every scalar that is no sign but a command written out: "\n" as `\n`, others as `\u{1B}`.
  /// - Parameter lines: whether a line feed stays one.
  public static func of(_ text: String, lines: Bool = false) -> String {
    guard text.unicodeScalars.contains(where: Self.commands) else { return text }
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n" where lines: shown.append(scalar)
      case "\n": shown.append(contentsOf: "\\n".unicodeScalars)
      case _ where Self.commands(scalar):
        shown.append(contentsOf: "\\u{\(String(scalar.value, radix: 16, uppercase: true))}".unicodeScalars)
      default: shown.append(scalar)
      }
    }
    return String(shown)
  }

  /// Controls, and what turns the direction of a line or ends it.
  static func commands(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: true
    case .format: (0x200E...0x200F).contains(scalar.value) || (0x202A...0x2069).contains(scalar.value)
    default: false
    }
  }
}
