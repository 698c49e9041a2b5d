import Storage
import Testing

@testable import RobotCore

@Suite(.timeLimit(.minutes(5))) struct WakeupTests {
  /// In it no time-out ever comes: who is not woken waits until the test has failed.
  private static var endless: Runtime {
    var runtime = Runtime.system
    runtime.sleepUntil = { _ in try await Task.sleep(for: .seconds(36_000)) }
    return runtime
  }

  @Test func aChangeBeforeTheWaitIsNotMissed() async {
    let wakeup = Wakeup(runtime: Self.endless)
    let seen = wakeup.changes
    wakeup.notify()
    await wakeup.wait(beyond: seen, atMost: .seconds(600))
  }

  @Test func everyWaiterWakes() async {
    let wakeup = Wakeup(runtime: Self.endless)
    let seen = wakeup.changes
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<50 { group.addTask { await wakeup.wait(beyond: seen, atMost: .seconds(600)) } }
      group.addTask {
        try? await Task.sleep(for: .milliseconds(20))
        wakeup.notify()
      }
      await group.waitForAll()
    }
    #expect(wakeup.changes == seen + 1)
  }

  @Test(arguments: [Duration.zero, .nanoseconds(1), .milliseconds(5)]) func aTimeoutEndsTheWait(
    timeout: Duration
  ) async {
    let wakeup = Wakeup()
    for _ in 0..<200 { await wakeup.wait(beyond: wakeup.changes, atMost: min(timeout, .microseconds(200))) }
    await wakeup.wait(beyond: wakeup.changes, atMost: timeout)
    #expect(wakeup.changes == 0)
  }

  @Test func aCancellationEndsTheWait() async {
    let wakeup = Wakeup(runtime: Self.endless)
    for delay in [0, 1, 5] {
      let waiting = Task { await wakeup.wait(beyond: 0, atMost: .seconds(600)) }
      try? await Task.sleep(for: .milliseconds(delay))
      waiting.cancel()
      await waiting.value
    }
    #expect(wakeup.changes == 0)
  }
}

@Suite struct BackoffTests {
  @Test func growsToItsBoundAndStartsOver() {
    var backoff = Backoff(first: .milliseconds(100), longest: .seconds(1))
    let pauses = (0..<20).map { _ in backoff.next() }
    #expect((Duration.milliseconds(50)...Duration.milliseconds(100)).contains(pauses[0]))
    #expect((Duration.milliseconds(100)...Duration.milliseconds(200)).contains(pauses[1]))
    #expect(pauses.allSatisfy { $0 <= .seconds(1) } && pauses[19] >= .milliseconds(500))
    backoff.reset()
    #expect(backoff.next() <= .milliseconds(100))
  }
}
