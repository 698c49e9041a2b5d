import Foundation

/// A command that somebody may want to run next, as texts show it.
///
/// Commands are copied from a terminal: each stands at the end of a line of its own, with nothing behind it.
struct CommandHint: Sendable {
  /// "End it".
  var label: String
  /// "fleet work cancel work-5f3a01c2", without what names the fleet.
  var command: String

  init(_ label: String, _ command: String) {
    self.label = label
    self.command = command
  }

  /// A sentence, and one line for each command.
  /// - Parameter again: what names the fleet in a command, as ``FleetOptions/again``.
  static func text(_ sentence: String, _ hints: [Self], again: String) -> String {
    let width = hints.map(\.label.count).max() ?? 0
    let lines = hints.map { hint in
      let space = String(repeating: " ", count: width - hint.label.count)
      return "\(hint.label): \(space)\(hint.command)\(again)"
    }
    return ([sentence] + lines).filter { !$0.isEmpty }.joined(separator: "\n")
  }

  /// A word as a shell reads it back: in quotes where it needs them.
  static func quoted(_ word: String) -> String {
    let plain = word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_@%+=:,./-".contains($0)) }
    return plain && !word.isEmpty ? word : "'\(word.replacing("'", with: #"'\''"#))'"
  }
}
