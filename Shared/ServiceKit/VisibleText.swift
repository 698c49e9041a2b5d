/// Text of others, robots' for instance, as a terminal or a log may show it: it neither moves the cursor nor begins a line.
public enum VisibleText {
  /// With every scalar that is no sign but a command written out: "\n" as `\n`, others as `\u{1B}`.
  /// - Parameter lines: whether a line feed stays one.
  public static func of(_ text: String, lines: Bool = false) -> String {
    Self.writeOut(text) { scalar in
      guard scalar == "\n" else { return "\\u{\(String(scalar.value, radix: 16, uppercase: true))}" }
      return lines ? "\n" : "\\n"
    }
  }

  /// JSON that says the same; its own line feeds stay.
  public static func of(json: String) -> String {
    Self.writeOut(json) { scalar in
      guard scalar != "\n" else { return "\n" }
      // All of them have four digits at most.
      let digits = String(scalar.value, radix: 16)
      return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }
  }

  private static func writeOut(_ text: String, _ written: (Unicode.Scalar) -> String) -> String {
    guard text.unicodeScalars.contains(where: Self.commands) else { return text }
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if Self.commands(scalar) {
        shown.append(contentsOf: written(scalar).unicodeScalars)
      } else {
        shown.append(scalar)
      }
    }
    return String(shown)
  }

  /// Controls, and what turns the direction of a line or ends it.
  static func commands(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: true
    case .format: [0x61C...0x61C, 0x200E...0x200F, 0x202A...0x2069].contains { $0.contains(scalar.value) }
    default: false
    }
  }
}
