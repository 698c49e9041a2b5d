import Foundation
import Synchronization

/// Many seeds over worker processes: one a core, each ended and replaced after some seeds, because tasks of hosts that died are
/// kept in memory for ever.
///
/// A seed counts once its worker has said what became of it, whatever the worker's exit status is.
package final class Campaign: Sendable {
  private static let seedsPerWorker: UInt64 = 100
  /// Wall time that one run of a seed has: it takes parts of a second, or ends itself after so many steps.
  package static let patience: Duration = .seconds(300)

  package struct Sum: Sendable {
    package var total = SimulationReport()
    /// Runs whose worker ended, or had to be ended, before it said what became of them: a trap in what is simulated.
    package var crashes = 0
    package var failures: [String] = []
    fileprivate var next: UInt64
    fileprivate var done = 0
  }

  /// Seeds that one worker is given, each in some scenarios.
  private struct Part {
    var seeds: Range<UInt64>
    var scenarios: [Scenario]

    /// In the order in which a worker runs them.
    var runs: [Run] { self.seeds.flatMap { seed in self.scenarios.map { Run(seed: seed, scenario: $0) } } }

    /// What a worker that did not come behind a run has left out.
    func rest(behind run: Run) -> [Part] {
      let others = self.scenarios.drop { $0 != run.scenario }.dropFirst()
      let seeds = run.seed + 1..<self.seeds.upperBound
      return others.map { Part(seeds: run.seed..<run.seed + 1, scenarios: [$0]) }
        + (seeds.isEmpty ? [] : [Part(seeds: seeds, scenarios: self.scenarios)])
    }
  }

  private struct Run: Equatable {
    var seed: UInt64
    var scenario: Scenario

    var replay: String {
      "  replay: deploy/test simulate --seeds 1 --seed \(self.seed) --scenario \(self.scenario)"
    }
  }

  private let scenarios: [Scenario]
  private let patience: Duration
  private let command: [String]
  private let sum = Mutex(Sum(next: 0))

  /// - Parameter command: begins a worker, to which its seeds are added.
  package init(
    scenarios: [Scenario], patience: Duration = Campaign.patience,
    command: [String] = [URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().path]
  ) {
    self.scenarios = scenarios
    self.patience = patience
    self.command = command
  }

  package func run(_ seeds: Range<UInt64>) -> Sum {
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

  private func work(_ seeds: Range<UInt64>, of all: Int) {
    var parts = [Part(seeds: seeds, scenarios: self.scenarios)]
    while let part = parts.popLast() {
      guard let (failing, why) = self.worker(part) else { continue }
      // It says what was wrong on standard error; the seeds behind it go on.
      self.sum.withLock { sum in
        sum.crashes += 1
        sum.failures.append("seed \(failing.seed) \(failing.scenario): \(why)\n\(failing.replay)")
      }
      parts += part.rest(behind: failing)
    }
    self.sum.withLock { sum in
      sum.done += seeds.count
      FileHandle.standardError.write(
        Data("simulate: \(sum.done)/\(all) seeds, \(sum.failures.count) broken\n".utf8))
    }
  }

  /// Runs some seeds in a process of their own.
  /// - Returns: the first run of which it did not say what became, and why; the last one where it ended badly behind all; nil
  ///   where nothing is wrong with it.
  private func worker(_ part: Part) -> (failing: Run, why: String)? {
    var open = part.runs
    let last = open[open.count - 1]
    let process = Process()
    process.executableURL = URL(filePath: self.command[0])
    process.arguments =
      self.command.dropFirst()
      + ["--worker", "--seed", "\(part.seeds.lowerBound)", "--seeds", "\(part.seeds.count)"]
      + (part.scenarios.count == 1 ? ["--scenario", part.scenarios[0].rawValue] : [])
    let pipe = Pipe()
    process.standardOutput = pipe
    do { try process.run() } catch { return (open[0], "no process could be begun: \(error)") }
    var lines = WorkerOutput(pipe.fileHandleForReading, patience: self.patience)
    var current: Run?
    while let line = lines.next() {
      switch WorkerLine(line) {
      case .began(let seed, let scenario): current = Run(seed: seed, scenario: scenario)
      case .ended(let report):
        guard let run = open.first, run == current else { continue }
        open.removeFirst()
        self.count(report, run)
      case nil: continue
      }
    }
    guard lines.isOver else {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      return (open.first ?? last, "nothing was heard of its process for \(self.patience); it was killed")
    }
    process.waitUntilExit()
    let isDone = open.isEmpty && process.terminationStatus == 0
    let why = "its process ended (\(process.terminationStatus)) before it was told"
    return isDone ? nil : (open.first ?? last, why)
  }

  private func count(_ report: SimulationReport, _ run: Run) {
    self.sum.withLock { sum in
      sum.total += report
      guard let failure = report.failure else { return }
      sum.failures.append("seed \(run.seed) \(run.scenario): \(failure)\n\(run.replay)")
    }
  }
}

/// The lines of a worker, for as long as one comes in time.
private struct WorkerOutput {
  private let file: FileHandle
  private let patience: Duration
  private var bytes = Data()
  /// Whether its end was read.
  private(set) var isOver = false

  init(_ file: FileHandle, patience: Duration) {
    self.file = file
    self.patience = patience
  }

  /// - Returns: nil at its end, or where nothing came in time.
  mutating func next() -> Substring? {
    while true {
      if let end = self.bytes.firstIndex(of: UInt8(ascii: "\n")) {
        defer { self.bytes = self.bytes[(end + 1)...] }
        return Substring(decoding: self.bytes[..<end], as: UTF8.self)
      }
      var poll = pollfd(fd: self.file.fileDescriptor, events: Int16(POLLIN), revents: 0)
      let count = Glibc.poll(&poll, 1, Int32(self.patience / .milliseconds(1)))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return nil }
      let more = self.file.availableData
      if more.isEmpty {
        self.isOver = true
        return nil
      }
      self.bytes += more
    }
  }
}
