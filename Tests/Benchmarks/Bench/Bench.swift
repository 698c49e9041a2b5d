import ArgumentParser
import Foundation

/// `deploy/bench NAME`: one benchmark, ours and its peers in turn.
@main
struct Bench: AsyncParsableCommand {
  enum Name: String, ExpressibleByArgument, CaseIterable { case bus }

  static let configuration = CommandConfiguration(
    abstract:
      "Measures ours and its peers in one run, in turn, and prints ratios: machines differ, ratios less.")

  @Argument(help: "What to measure: \(Name.allCases.map(\.rawValue).joined(separator: ", ")).")
  var name: Name

  @Option(help: "Write the rows to this file.")
  var json: String?

  @Option(help: "Seconds of each measurement.")
  var seconds = 1.0

  @Option(help: "Measurements of each system and workload; the median counts.")
  var rounds = 3

  @Option(help: "Only workloads whose name contains this, e.g. \"stream 256\".")
  var only: String?

  func validate() throws {
    guard self.seconds > 0, self.seconds <= 60 else {
      throw ValidationError("--seconds must be above 0, at most 60.")
    }
    if let json {
      let folder = URL(fileURLWithPath: json).deletingLastPathComponent().path
      guard FileManager.default.isWritableFile(atPath: folder) else {
        throw ValidationError("--json \(json): the folder \(folder) is missing or cannot be written.")
      }
    }
    guard (1...99).contains(self.rounds) else { throw ValidationError("--rounds must be 1 to 99.") }
  }

  func run() async throws {
    let rows =
      switch self.name {
      case .bus: try await BusBenchmark(seconds: self.seconds, rounds: self.rounds, only: self.only).run()
      }
    guard let json else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(rows).write(to: URL(fileURLWithPath: json))
    print("\nwritten: \(json)")
  }
}
