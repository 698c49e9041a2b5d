package import GRPCCore
package import Schemas
import Synchronization

/// One open stream to inference: a call per action would cost a round of set-up each.
package final class InferenceStream: RemotePolicy {
  private typealias Answer = CheckedContinuation<ActResponse?, Never>

  private struct State {
    var nextID: UInt64 = 1
    var waiting: [UInt64: Answer] = [:]
    var outgoing: AsyncStream<ActRequest>.Continuation?
  }

  /// Requests that wait to be sent. More than one only while the link is slow; the newest observation matters.
  private static let queued = 2

  private let state = Mutex(State())

  package init() {}

  /// Keeps a stream open until cancelled; opens it again, with pauses, when it breaks.
  package func run<Transport: ClientTransport>(_ client: InferenceService.Client<Transport>) async {
    var backoff = Backoff(first: .milliseconds(100), longest: .seconds(5))
    while !Task.isCancelled {
      let (requests, outgoing) = AsyncStream.makeStream(
        of: ActRequest.self, bufferingPolicy: .bufferingNewest(Self.queued))
      self.state.withLock { $0.outgoing = outgoing }
      let opened = ContinuousClock.now
      try? await client.act(
        requestProducer: { writer in
          for await request in requests { try await writer.write(request) }
        },
        onResponse: { response in
          for try await answer in response.messages { self.deliver(answer) }
        })
      self.state.withLock { $0.outgoing = nil }
      outgoing.finish()
      if .now - opened > .seconds(10) { backoff.reset() }
      try? await Task.sleep(for: backoff.next())
    }
    self.giveUp()
  }

  package func act(_ observation: Observation, version: String, budget: Duration) async -> ActResponse? {
    let (id, outgoing) = self.state.withLock { state in
      defer { state.nextID += 1 }
      return (state.nextID, state.outgoing)
    }
    guard let outgoing else { return nil }
    let request = ActRequest(
      requestID: id, observation: observation, modelVersion: version,
      budgetMicros: UInt64(max(0, budget.micros)))
    let answer = await withCheckedContinuation { continuation in
      self.state.withLock { $0.waiting[id] = continuation }
      // Begun only now: a timer that fires before anybody waits would never fire again.
      Task {
        try? await Task.sleep(for: budget)
        self.resolve(id, nil)
      }
      outgoing.yield(request)
    }
    // An answer with an error code is no answer; the local policy acts.
    guard let answer, answer.code == 0, answer.modelVersion == version else { return nil }
    return answer
  }

  private func deliver(_ answer: ActResponse) { self.resolve(answer.requestID, answer) }

  /// An answer that comes after its budget finds nobody.
  private func resolve(_ id: UInt64, _ answer: ActResponse?) {
    self.state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(returning: answer)
  }

  private func giveUp() {
    let waiting = self.state.withLock { state in
      defer { state.waiting.removeAll() }
      return Array(state.waiting.values)
    }
    for answer in waiting { answer.resume(returning: nil) }
  }
}
