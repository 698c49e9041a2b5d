/// What a worker says to the campaign.
package enum WorkerLine {
  case began(UInt64, Scenario)
  case ended(SimulationReport)

  private static let numbers: [any WritableKeyPath<SimulationReport, Int> & Sendable] = [
    \.kills, \.faults, \.published, \.stored, \.lost, \.duplicates, \.steps,
  ]

  package var text: String {
    switch self {
    case .began(let seed, let scenario): return "began \(seed) \(scenario.rawValue)"
    case .ended(let report):
      let numbers = Self.numbers.map { "\(report[keyPath: $0])" }.joined(separator: " ")
      // One line, whatever the failure says.
      let failure = report.failure.map { $0.replacing("\n", with: "\u{2028}") } ?? ""
      return "ended \(numbers) \(failure)"
    }
  }

  /// Nil for any other text, such as a trace.
  package init?(_ text: Substring) {
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    switch words.first {
    case "began":
      guard words.count == 3, let seed = UInt64(words[1]), let scenario = Scenario(rawValue: String(words[2]))
      else { return nil }
      self = .began(seed, scenario)
    case "ended":
      var report = SimulationReport()
      guard words.count > Self.numbers.count + 1 else { return nil }
      for (path, word) in zip(Self.numbers, words.dropFirst()) {
        guard let number = Int(word) else { return nil }
        report[keyPath: path] = number
      }
      let failure = words.dropFirst(Self.numbers.count + 1).joined(separator: " ")
      report.failure = failure.isEmpty ? nil : failure.replacing("\u{2028}", with: "\n")
      self = .ended(report)
    default: return nil
    }
  }
}
