import Foundation
import Simulations
import Synchronization

/// Many seeds over worker processes: one a core, each ended and replaced after some seeds, because tasks of hosts that died are
/// kept in memory for ever.
final class Campaign: Sendable {
  private static let seedsPerWorker: UInt64 = 100

  struct Sum {
    var total = SimulationReport()
    /// Workers that ended otherwise than they should: a trap in what is simulated.
    var crashes = 0
    var failures: [String] = []
    fileprivate var next: UInt64
    fileprivate var done = 0
  }

  private let scenarios: [Scenario]
  private let sum = Mutex(Sum(next: 0))

  init(scenarios: [Scenario]) { self.scenarios = scenarios }

  func run(_ seeds: Range<UInt64>) -> Sum {
    self.sum.withLock { $0 = Sum(next: seeds.lowerBound) }
    let group = DispatchGroup()
    for _ in 0..<ProcessInfo.processInfo.activeProcessorCount {
      DispatchQueue.global().async(group: group) {
        while let part = self.take(from: seeds) { self.work(part, of: seeds.count) }
      }
    }
    group.wait()
    return self.sum.withLock { $0 }
  }

  private func take(from seeds: Range<UInt64>) -> Range<UInt64>? {
    self.sum.withLock { sum in
      guard sum.next < seeds.upperBound else { return nil }
      let part = sum.next..<min(sum.next + Self.seedsPerWorker, seeds.upperBound)
      sum.next = part.upperBound
      return part
    }
  }

  private func work(_ part: Range<UInt64>, of all: Int) {
    var rest = part
    while !rest.isEmpty {
      let (last, status) = self.worker(rest)
      if status == 0 { break }
      // It says what was wrong on standard error; the seeds behind it go on.
      let failing = last ?? (rest.lowerBound, self.scenarios[0])
      self.sum.withLock { sum in
        sum.crashes += 1
        sum.failures.append(
          "seed \(failing.0) \(failing.1): the process ended (\(status))\n\(Self.replay(failing))")
      }
      rest = failing.0 + 1..<rest.upperBound
    }
    self.sum.withLock { sum in
      sum.done += part.count
      FileHandle.standardError.write(
        Data("simulate: \(sum.done)/\(all) seeds, \(sum.failures.count) broken\n".utf8))
    }
  }

  private static func replay(_ failing: (UInt64, Scenario)) -> String {
    "  replay: deploy/test simulate --seeds 1 --seed \(failing.0) --scenario \(failing.1)"
  }

  /// Runs some seeds in a process of their own.
  /// - Returns: what it was at last, and its exit status.
  private func worker(_ seeds: Range<UInt64>) -> ((UInt64, Scenario)?, Int32) {
    let process = Process()
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["--worker", "--seed", "\(seeds.lowerBound)", "--seeds", "\(seeds.count)"]
    if self.scenarios.count == 1 { process.arguments! += ["--scenario", self.scenarios[0].rawValue] }
    let pipe = Pipe()
    process.standardOutput = pipe
    do { try process.run() } catch { return (nil, -1) }
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    var current: (UInt64, Scenario)?
    for line in output.split(separator: "\n") {
      switch WorkerLine(line) {
      case .began(let seed, let scenario): current = (seed, scenario)
      case .ended(let report): self.count(report, current)
      case nil: continue
      }
    }
    return (current, process.terminationStatus)
  }

  private func count(_ report: SimulationReport, _ current: (UInt64, Scenario)?) {
    self.sum.withLock { sum in
      sum.total += report
      guard let failure = report.failure, let current else { return }
      sum.failures.append("seed \(current.0) \(current.1): \(failure)\n\(Self.replay(current))")
    }
  }
}
