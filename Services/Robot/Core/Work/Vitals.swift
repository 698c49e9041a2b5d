package import Schemas
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

  private let path: String
  private let state: Mutex<State>

  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(folder: String) throws {
    try DiskFolder.make(folder)
    self.path = "\(folder)/vitals.json"
    var state = State()
    state.kept = try DiskFolder.readJSON(Persistent.self, self.path) ?? Persistent()
    self.state = Mutex(state)
  }

  package func trialStarted() {
    let kept = self.state.withLock { state in
      state.kept.trialsStarted += 1
      return state.kept
    }
    try? DiskFolder.writeJSON(kept, self.path)
  }

  /// Counts failures in a row, whoever acted: an expert who fails again and again has a broken robot. An aborted trial
  /// says nothing.
  package func trialEnded(_ outcome: Outcome) {
    guard outcome == .success || outcome == .failure else { return }
    let kept = self.state.withLock { state in
      state.kept.consecutiveFailures = outcome == .success ? 0 : state.kept.consecutiveFailures + 1
      return state.kept
    }
    try? DiskFolder.writeJSON(kept, self.path)
  }

  /// The robot was repaired: failures count from zero.
  package func forgetFailures() {
    self.state.withLock { $0.kept.consecutiveFailures = 0 }
  }

  package func step(fallback: Bool, took: Duration, at now: ContinuousClock.Instant = .now) {
    let micros = UInt32(clamping: took.micros)
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
  package func describe(in heartbeat: inout Heartbeat, at now: ContinuousClock.Instant = .now) {
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
