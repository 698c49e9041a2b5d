/// A message or enum under its three names: proto's, C's and Swift's.
struct TypeName {
  var package: String
  var parents: [String]
  var name: String

  /// "fleetloop.v1.TrialHeader"
  var full: String { ([self.package] + self.parents + [self.name]).joined(separator: ".") }
  /// "TrialHeader", "HealthCheckResponse.ServingStatus"
  var swift: String { (self.parents + [self.name]).joined(separator: ".") }
  /// protoc-c's type: "Fleetloop__V1__TrialHeader"
  var cType: String {
    let packages = self.package.split(separator: ".").map { Names.capitalized(String($0)) }
    return (packages + self.parents + [self.name]).joined(separator: "__")
  }
  /// protoc-c's prefix of functions: "fleetloop__v1__trial_header"
  var cFunction: String { Names.cFunction(ofType: self.cType) }
}

enum Names {
  /// "trial_id" → "trialID"; "robot" → "robot". Keywords come in backticks.
  static func property(_ proto: String) -> String { Self.escaped(Self.bareProperty(proto)) }

  static func bareProperty(_ proto: String) -> String {
    let words = proto.split(separator: "_").map(String.init)
    return words.enumerated().map { index, word in
      if index == 0 { return word.lowercased() }
      switch word {
      case "id", "url", "rpc": return word.uppercased()
      case "ids": return "IDs"
      default: return Self.capitalized(word)
      }
    }.joined()
  }

  /// "TRIAL_STATE_STORED" of "TrialState" → "stored".
  static func enumCase(_ proto: String, of type: String) -> String {
    let prefix = Self.snake(type).uppercased() + "_"
    let bare = proto.hasPrefix(prefix) ? String(proto.dropFirst(prefix.count)) : proto
    return Self.escaped(Self.bareProperty(bare.lowercased()))
  }

  static func capitalized(_ word: String) -> String { word.prefix(1).uppercased() + word.dropFirst() }

  /// "TrialHeader" → "trial_header", as protoc-c does it: an underscore before a capital that follows a small letter.
  static func snake(_ camel: String) -> String {
    var text = ""
    var afterSmall = false
    for character in camel {
      if character.isUppercase, afterSmall { text.append("_") }
      text += character.lowercased()
      afterSmall = character.isLowercase
    }
    return text
  }

  /// "Fleetloop__V1__TrialHeader__LabelsEntry" → "fleetloop__v1__trial_header__labels_entry".
  static func cFunction(ofType type: String) -> String {
    var parts: [String] = []
    var rest = Substring(type)
    while let range = rest.firstRange(of: "__") {
      parts.append(String(rest[..<range.lowerBound]))
      rest = rest[range.upperBound...]
    }
    return (parts + [String(rest)]).map(Self.snake).joined(separator: "__")
  }

  private static let keywords: Set<String> = [
    "associatedtype", "class", "deinit", "enum", "extension", "func", "import", "init", "inout", "internal",
    "let",
    "operator", "private", "protocol", "public", "static", "struct", "subscript", "typealias", "var", "break",
    "case",
    "continue", "default", "defer", "do", "else", "fallthrough", "for", "guard", "if", "in", "repeat",
    "return",
    "switch", "where", "while", "as", "catch", "false", "is", "nil", "rethrows", "super", "self", "throw",
    "throws",
    "true", "try",
  ]

  static func escaped(_ name: String) -> String { Self.keywords.contains(name) ? "`\(name)`" : name }
}

/// Text with indentation.
struct SourceText {
  private(set) var text = ""
  private var depth = 0

  mutating func line(_ line: String = "") {
    self.text += line.isEmpty ? "\n" : String(repeating: "  ", count: self.depth) + line + "\n"
  }

  mutating func block(_ opening: String, _ closing: String = "}", _ body: (inout SourceText) -> Void) {
    self.line(opening)
    self.depth += 1
    body(&self)
    self.depth -= 1
    self.line(closing)
  }

  mutating func comment(_ comment: String) {
    for line in comment.split(separator: "\n") {
      let words = line.trimmingPrefix { $0 == " " }
      self.line(words.isEmpty ? "///" : "/// \(words)")
    }
  }
}
