import Bus
import Dispatch
import Policy
import Schemas
import Synchronization

/// Answers observations on threads of its own. What waits for the same model when a thread gets free goes through the
/// network together.
package final class Batcher: Sendable {
  package struct Configuration: Sendable {
    /// Batches that run at once; each keeps one core busy.
    package var workers = 2
    /// Observations in a batch.
    package var largestBatch = 8
    /// Observations that may wait; more are refused at once. A caller may have as many of three quarters of the places as are
    /// left for all others; the last quarter is for those that have none.
    package var capacity = 256
    /// How long a free thread waits for observations of other robots. Only where several robots are connected: a single
    /// one would only wait for itself.
    package var window: Duration = .microseconds(300)

    package init() {}
  }

  struct Answer: Sendable {
    var actions: [Float]
    var batchSize: Int
  }

  private struct Waiting {
    var id: UInt64
    var caller: String
    var model: ServedModel
    var observation: Observation
    var deadline: ContinuousClock.Instant?
    var continuation: CheckedContinuation<Answer, any Error>
  }

  private struct State {
    var waiting: [Waiting] = []
    var idleWorkers: Int
    var streams = 0
  }

  private let configuration: Configuration
  private let state: Mutex<State>
  /// Observations so far: tells those that wait apart.
  private let count = Atomic<UInt64>(0)
  private let queue = DispatchQueue(
    label: "fleetloop.inference.network", qos: .userInteractive, attributes: .concurrent)

  package init(_ configuration: Configuration = .init()) {
    self.configuration = configuration
    self.state = Mutex(State(idleWorkers: max(1, configuration.workers)))
    // Robots are answered side by side, one thread each: several threads for one answer cost more than they gain.
    Torch.useThreads(1)
  }

  /// Tells how many robots may send observations at the same time.
  func streamsChanged(by change: Int) { self.state.withLock { $0.streams += change } }

  /// Observations whose turn has not come.
  var waiting: Int { self.state.withLock { $0.waiting.count } }

  /// - Parameters:
  ///   - caller: whose observations are counted together.
  ///   - deadline: an observation whose turn comes later is not looked at.
  /// - Throws: ``InferenceError`` `.expired`, `.busy`, `.invalid`, `.failed`; `CancellationError` where the task was cancelled
  ///   before its turn: nobody waits for the answer, and its place is free.
  func act(
    _ observation: Observation, model: ServedModel, of caller: String,
    before deadline: ContinuousClock.Instant?
  ) async throws -> Answer {
    let id = self.count.add(1, ordering: .relaxed).newValue
    return try await withTaskCancellationHandler {
      try await self.wait(id, caller, observation, model, deadline)
    } onCancel: {
      let waiting = self.state.withLock { state in
        state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0) }
      }
      waiting?.continuation.resume(throwing: CancellationError())
    }
  }

  private func wait(
    _ id: UInt64, _ caller: String, _ observation: Observation, _ model: ServedModel,
    _ deadline: ContinuousClock.Instant?
  ) async throws -> Answer {
    try await withCheckedThrowingContinuation { continuation in
      let waiting = Waiting(
        id: id, caller: caller, model: model, observation: observation, deadline: deadline,
        continuation: continuation)
      let pause: Duration? = self.state.withLock { state in
        guard !Task.isCancelled else {
          continuation.resume(throwing: CancellationError())
          return nil
        }
        let own = state.waiting.count { $0.caller == caller }
        guard FairShare.has(own: own, of: self.configuration.capacity, taken: state.waiting.count) else {
          continuation.resume(
            throwing: InferenceError(
              .busy,
              "\(state.waiting.count) observations wait already, \(own) of \(caller); ask less often."))
          return nil
        }
        state.waiting.append(waiting)
        guard state.idleWorkers > 0 else { return nil }
        state.idleWorkers -= 1
        return state.streams > 1 ? self.configuration.window : .zero
      }
      guard let pause else { return }
      if pause > .zero {
        let (seconds, attoseconds) = pause.components
        let nanos = Int(clamping: seconds) * 1_000_000_000 + Int(clamping: attoseconds / 1_000_000_000)
        self.queue.asyncAfter(deadline: .now() + .nanoseconds(nanos)) { self.work() }
      } else {
        self.queue.async { self.work() }
      }
    }
  }

  /// One worker's turn: batches until nothing waits.
  private func work() {
    while let batch = self.nextBatch() { self.run(batch) }
  }

  /// The oldest that waits, and what else waits for the same model; nil makes the worker idle.
  private func nextBatch() -> [Waiting]? {
    self.state.withLock { state in
      guard let model = state.waiting.first?.model else {
        state.idleWorkers += 1
        return nil
      }
      var batch: [Waiting] = []
      state.waiting.removeAll { waiting in
        guard waiting.model === model, batch.count < self.configuration.largestBatch else { return false }
        batch.append(waiting)
        return true
      }
      return batch
    }
  }

  private func run(_ batch: [Waiting]) {
    var taken: [(continuation: CheckedContinuation<Answer, any Error>, input: PreparedObservation)] = []
    for waiting in batch {
      if let deadline = waiting.deadline, .now >= deadline {
        waiting.continuation.resume(
          throwing: InferenceError(.expired, "The time for the answer was over before its turn came."))
        continue
      }
      do {
        taken.append((waiting.continuation, try waiting.model.engine.prepare(waiting.observation)))
      } catch {
        waiting.continuation.resume(throwing: InferenceError(error))
      }
    }
    guard let engine = batch.first?.model.engine, !taken.isEmpty else { return }
    do {
      let actions = try engine.actions(for: taken.map(\.input))
      for (waiting, actions) in zip(taken, actions) {
        waiting.continuation.resume(returning: Answer(actions: actions, batchSize: taken.count))
      }
    } catch {
      for waiting in taken { waiting.continuation.resume(throwing: InferenceError(error)) }
    }
  }

  private typealias PreparedObservation = InferenceEngine.PreparedObservation
}
