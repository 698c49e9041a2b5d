package import Foundation
import ServiceKit
import Synchronization

/// Tells how long work goes: a bar on a terminal, plain lines elsewhere.
package final class ProgressReport: Sendable {
  private struct State {
    var lastLine: ContinuousClock.Instant?
    var lastText = ""
    var barShown = false
    var obstacle = ""
  }

  private let isTerminal: Bool
  private let output: FileHandle
  private let state = Mutex(State())

  package init(isTerminal: Bool = isatty(STDERR_FILENO) == 1, output: FileHandle = .standardError) {
    self.isTerminal = isTerminal
    self.output = output
  }

  /// Shows that `done` of `total` is done. On a terminal the bar is redrawn; elsewhere a line comes at most every 10 s.
  package func update(_ label: String, done: Double, total: Double, detail: String = "") {
    let (label, detail) = (VisibleText.of(label), VisibleText.of(detail))
    let share = total > 0 ? min(1, max(0, done / total)) : 0
    self.state.withLock { state in
      if self.isTerminal {
        let filled = Int(share * 24)
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
        self.write("\r\u{1B}[K  \(label) \(bar) \(Int(share * 100)) % \(detail)")
        state.barShown = true
        return
      }
      let now = ContinuousClock.now
      let text = "  \(label): \(Int(share * 100)) % \(detail)"
      guard text != state.lastText, state.lastLine.map({ now - $0 >= .seconds(10) }) ?? true else { return }
      state.lastLine = now
      state.lastText = text
      self.write(text + "\n")
    }
  }

  /// A line that stays.
  package func line(_ text: String) {
    self.state.withLock { state in
      if state.barShown { self.write("\r\u{1B}[K") }
      state.barShown = false
      self.write(VisibleText.of(text, lines: true) + "\n")
    }
  }

  /// A line that says what work waits for, once until that is something else.
  /// - Parameter text: empty where it waits for nothing.
  package func waits(_ text: String) {
    let isNew = self.state.withLock { state in
      defer { state.obstacle = text }
      return state.obstacle != text
    }
    if isNew, !text.isEmpty { self.line("  \(text)") }
  }

  private func write(_ text: String) {
    try? self.output.write(contentsOf: Data(text.utf8))
  }
}
