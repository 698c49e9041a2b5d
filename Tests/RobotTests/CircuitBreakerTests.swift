import GRPCCore
import GRPCInProcessTransport
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

@Suite struct CircuitBreakerTests {
  private let start = ContinuousClock.now

  private func opened(_ failures: Int = 3) -> CircuitBreaker {
    var breaker = CircuitBreaker(
      failuresToOpen: failures, firstPause: .seconds(1), longestPause: .seconds(4))
    for _ in 0..<failures {
      _ = breaker.admit(now: self.start)
      breaker.failed(now: self.start)
    }
    return breaker
  }

  @Test func `only time-outs in a row open it`() {
    var breaker = CircuitBreaker(failuresToOpen: 3)
    for _ in 0..<10 {
      breaker.failed(now: self.start)
      breaker.failed(now: self.start)
      breaker.succeeded()
    }
    #expect(breaker.admit(now: self.start) == .call)
    for _ in 0..<3 { breaker.failed(now: self.start) }
    #expect(breaker.admit(now: self.start) == .refuse)
  }

  @Test func `after its pause one probe goes out, and an answer closes it`() {
    var breaker = self.opened()
    #expect(breaker.admit(now: self.start + .milliseconds(499)) == .refuse)
    #expect(breaker.admit(now: self.start + .seconds(1)) == .probe)
    #expect(breaker.admit(now: self.start + .seconds(60)) == .refuse, "one probe at a time")
    breaker.succeeded()
    #expect(breaker.admit(now: self.start + .seconds(60)) == .call)
    breaker.failed(now: self.start)
    #expect(breaker.admit(now: self.start) == .call, "it counts anew")
  }

  @Test func `each probe that fails makes the next pause longer, up to its bound`() {
    var breaker = self.opened()
    var now = self.start
    for longest in [1, 2, 4, 4, 4] {
      #expect(breaker.admit(now: now + .milliseconds(500 * longest - 1)) == .refuse)
      now += .seconds(longest)
      #expect(breaker.admit(now: now) == .probe)
      breaker.failed(now: now)
    }
  }

  @Test func `a call from before it opened changes nothing`() {
    var breaker = self.opened()
    breaker.failed(now: self.start + .seconds(50))
    #expect(breaker.admit(now: self.start + .seconds(1)) == .probe)
  }
}

/// A clock that a test moves on; time itself passes as ever for what sleeps.
private final class LeapingClock: Sendable {
  private let leap = Mutex(Duration.zero)

  func leap(_ duration: Duration) { self.leap.withLock { $0 += duration } }

  var runtime: Runtime {
    var runtime = Runtime.system
    runtime.now = { .now + self.leap.withLock { $0 } }
    runtime.sleepUntil = { instant in
      try await Task.sleep(until: instant - self.leap.withLock { $0 }, clock: .continuous)
    }
    return runtime
  }
}

@Suite struct OfflineInferenceTests {
  @Test func `while inference is silent no step waits for it, and a probe finds it again`() async throws {
    let (service, clock) = (InferenceStub(), LeapingClock())
    let transport = InProcessTransport()
    let server = GRPCServer(transport: transport.server, services: [service])
    let asked = { service.budgets.value.withLock { $0.count } }
    try await withGRPCClient(transport: transport.client) { client in
      try await withThrowingTaskGroup(of: Void.self) { group in
        let stream = InferenceStream(runtime: clock.runtime)
        func act(_ task: String, _ budget: Duration) async -> ActResponse? {
          await stream.act(Observation(task: task), version: "v1", sha256: [], budget: budget)
        }
        group.addTask { try await server.serve() }
        group.addTask { await stream.run(InferenceService.Client(wrapping: client)) }
        try await eventually("the stream is open") { await act("t", .seconds(20)) != nil }
        for _ in 0..<5 { #expect(await act("slow", .milliseconds(10)) == nil) }
        let before = asked()
        // A budget of an hour: the test would not end if one of them waited. The pause is too short for them all.
        clock.leap(.seconds(-60))
        for _ in 0..<1_000 { #expect(await act("slow", .seconds(3_600)) == nil) }
        #expect(asked() == before, "nobody was asked")
        clock.leap(.seconds(120))
        #expect(await act("t", .seconds(20)) == nil, "not even the probe is waited for")
        try await eventually("the probe was answered") { await act("t", .seconds(20)) != nil }
        group.cancelAll()
        server.beginGracefulShutdown()
      }
    }
  }
}
