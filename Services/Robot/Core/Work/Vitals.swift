package import Schemas
package import Storage
import Synchronization

/// Numbers for the heartbeat.
package final class Vitals: Sendable {
  private struct Latency {
    var at: ContinuousClock.Instant
    var micros: UInt32
  }

  private struct Persistent: Codable {
    var trialsStarted: UInt64 = 0
    var consecutiveFailures: UInt32 = 0
  }

  private struct State {
    var kept = Persistent()
    var steps: UInt64 = 0
    var fallbackSteps: UInt64 = 0
    /// A ring; bounded, so that a fast robot's minute is cut rather than its memory grown.
    var latencies: [Latency] = []
    var oldest = 0
  }

  private static let ringSize = 8_192
  private static let window: Duration = .seconds(60)

  private let file: KeptFile<Persistent>
  private let runtime: Runtime
  private let state: Mutex<State>
  /// Held while the file is written, so that older numbers never replace newer ones there.
  private let writing = Mutex(())

  /// Opens the numbers that an earlier agent left; damaged ones begin anew.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(folder: String, disk: any Disk = SystemDisk(), runtime: Runtime = .system) throws(RobotError) {
    try onDisk { () throws(StorageError) in try disk.makeFolder(folder) }
    self.file = KeptFile(path: "\(folder)/vitals.json", disk: disk)
    self.runtime = runtime
    var state = State()
    if case .value(let kept) = self.file.read() { state.kept = kept }
    self.state = Mutex(state)
  }

  package func trialStarted() {
    self.change { $0.trialsStarted &+= 1 }
  }

  /// Counts failures in a row, whoever acted: an expert who fails again and again has a broken robot. An aborted trial
  /// says nothing.
  package func trialEnded(_ outcome: Outcome) {
    guard outcome == .success || outcome == .failure else { return }
    self.change { kept in
      let failures = kept.consecutiveFailures
      kept.consecutiveFailures = outcome == .success ? 0 : failures + (failures == .max ? 0 : 1)
    }
  }

  /// The robot was repaired: failures count from zero.
  package func forgetFailures() {
    self.change { $0.consecutiveFailures = 0 }
  }

  /// Where the disk refuses them, the numbers still hold in memory: they are for people.
  private func change(_ change: (inout Persistent) -> Void) {
    self.state.withLock { change(&$0.kept) }
    self.writing.withLock { _ in try? self.file.write(self.state.withLock { $0.kept }) }
  }

  package func step(fallback: Bool, took: Duration) {
    let (now, micros) = (self.runtime.now(), UInt32(clamping: took.micros))
    self.state.withLock { state in
      state.steps += 1
      if fallback { state.fallbackSteps += 1 }
      let latency = Latency(at: now, micros: micros)
      if state.latencies.count < Self.ringSize {
        state.latencies.append(latency)
      } else {
        state.latencies[state.oldest] = latency
        state.oldest = (state.oldest + 1) % Self.ringSize
      }
    }
  }

  /// Fills in the fields that are counted here.
  package func describe(in heartbeat: inout Heartbeat) {
    let now = self.runtime.now()
    let state = self.state.withLock { $0 }
    heartbeat.trialsStarted = state.kept.trialsStarted
    heartbeat.consecutiveFailures = state.kept.consecutiveFailures
    heartbeat.steps = state.steps
    heartbeat.fallbackSteps = state.fallbackSteps
    let recent = state.latencies.filter { now - $0.at < Self.window }.map(\.micros).sorted()
    guard !recent.isEmpty else { return }
    heartbeat.actionP50Micros = Double(recent[recent.count / 2])
    heartbeat.actionP99Micros = Double(recent[min(recent.count - 1, recent.count * 99 / 100)])
  }
}

extension Duration {
  var micros: Int64 { self.components.seconds * 1_000_000 + self.components.attoseconds / 1_000_000_000_000 }
}
