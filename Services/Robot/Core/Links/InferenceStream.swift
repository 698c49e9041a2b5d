package import GRPCCore
package import Schemas
package import Storage
import Synchronization

/// One open stream to inference: a call per action would cost a round of set-up each. While inference does not answer, nobody
/// waits for it; see ``CircuitBreaker``.
package final class InferenceStream: RemotePolicy {
  /// What became of a request.
  private enum Outcome {
    case answered(ActResponse)
    case late
  }

  private struct State {
    var nextID: UInt64 = 1
    var waiting: [UInt64: CheckedContinuation<Outcome, Never>] = [:]
    var outgoing: AsyncStream<ActRequest>.Continuation?
    var breaker: CircuitBreaker
    /// When the first request went out that nothing was heard after; nil where there is none.
    var unansweredSince: ContinuousClock.Instant?
  }

  /// Requests that wait to be sent. More than one only while the link is slow; the newest observation matters.
  private static let queued = 2
  private let patience: Duration
  private let runtime: Runtime
  private let state: Mutex<State>

  /// - Parameter patience: silence after which a stream with open requests is given up for a new one.
  package init(runtime: Runtime = .system, patience: Duration = .seconds(10)) {
    self.patience = patience
    self.runtime = runtime
    self.state = Mutex(State(breaker: CircuitBreaker(runtime: runtime)))
  }

  /// Keeps a stream open until cancelled; opens it again, with pauses, when it breaks.
  package func run<Transport: ClientTransport>(_ client: InferenceService.Client<Transport>) async {
    var backoff = Backoff(first: .milliseconds(100), longest: .seconds(5), runtime: self.runtime)
    while !Task.isCancelled {
      let (requests, outgoing) = AsyncStream.makeStream(
        of: ActRequest.self, bufferingPolicy: .bufferingNewest(Self.queued))
      self.state.withLock { state in
        state.outgoing = outgoing
        state.unansweredSince = nil
      }
      let opened = self.runtime.now()
      await self.converse(client, requests)
      self.state.withLock { $0.outgoing = nil }
      outgoing.finish()
      if self.runtime.now() - opened > self.patience { backoff.reset() }
      try? await self.runtime.sleep(for: backoff.next())
    }
    self.giveUp()
  }

  /// Returns when the stream has ended, or has been silent for too long.
  private func converse<Transport: ClientTransport>(
    _ client: InferenceService.Client<Transport>, _ requests: AsyncStream<ActRequest>
  ) async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        // Why it broke does not matter: the next one is on its way.
        try? await client.act(
          requestProducer: { writer in
            for await request in requests { try await writer.write(request) }
          },
          onResponse: { response in
            for try await answer in response.messages { self.deliver(answer) }
          })
      }
      group.addTask { await self.watch() }
      await group.next()
      group.cancelAll()
    }
  }

  private func watch() async {
    while !Task.isCancelled {
      try? await self.runtime.sleep(for: self.patience / 10)
      let now = self.runtime.now()
      let since = self.state.withLock { $0.unansweredSince }
      if let since, now - since > self.patience { return }
    }
  }

  package func act(
    _ observation: Observation, version: String, sha256: [UInt8], budget: Duration
  ) async -> ActResponse? {
    let now = self.runtime.now()
    let (outgoing, admission) = self.state.withLock { state in
      // A call that cannot go out says nothing about the service.
      (state.outgoing, state.outgoing == nil ? .refuse : state.breaker.admit(now: now))
    }
    guard let outgoing else { return nil }
    let request = ActRequest(
      observation: observation, modelVersion: version, budgetMicros: UInt64(max(0, budget.micros)),
      manifestSha256: sha256)
    switch admission {
    case .call:
      return await self.ask(request, budget: budget, outgoing)
    case .probe:
      Task(executorPreference: self.runtime.taskExecutor) {
        _ = await self.ask(request, budget: budget, outgoing)
      }
      return nil
    case .refuse: return nil
    }
  }

  private func ask(
    _ request: ActRequest, budget: Duration, _ outgoing: AsyncStream<ActRequest>.Continuation
  ) async -> ActResponse? {
    var request = request
    let id = self.state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    request.requestID = id
    let outcome = await withCheckedContinuation { continuation in
      let now = self.runtime.now()
      self.state.withLock { state in
        state.waiting[id] = continuation
        state.unansweredSince = state.unansweredSince ?? now
      }
      // Begun only now: a timer that fires before anybody waits would never fire again.
      Task(executorPreference: self.runtime.taskExecutor) {
        try? await self.runtime.sleep(for: budget)
        self.resolve(id, .late)
      }
      outgoing.yield(request)
    }
    switch outcome {
    case .answered(let answer):
      self.state.withLock { $0.breaker.succeeded() }
      // An answer with an error code is no answer; the local policy acts.
      return answer.code == 0 && answer.modelVersion == request.modelVersion ? answer : nil
    case .late:
      let now = self.runtime.now()
      self.state.withLock { $0.breaker.failed(now: now) }
      return nil
    }
  }

  private func deliver(_ answer: ActResponse) {
    self.state.withLock { $0.unansweredSince = nil }
    self.resolve(answer.requestID, .answered(answer))
  }

  /// An answer that comes after its budget finds nobody.
  private func resolve(_ id: UInt64, _ outcome: Outcome) {
    self.state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(returning: outcome)
  }

  private func giveUp() {
    let waiting = self.state.withLock { state in
      defer { state.waiting.removeAll() }
      return Array(state.waiting.values)
    }
    for continuation in waiting { continuation.resume(returning: .late) }
  }
}
