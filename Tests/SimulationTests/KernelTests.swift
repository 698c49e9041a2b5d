import SimulationKit
import Storage
import Synchronization
import Testing

@Suite("Simulation")
struct KernelTests {
  private actor Counter {
    private let executor: any SerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }
    private(set) var order: [Int] = []

    init(_ runtime: Runtime) { self.executor = runtime.makeSerialExecutor("counter") }
    func add(_ number: Int) { self.order.append(number) }
  }

  private final class Kept<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    var value: Value {
      get { self.mutex.withLock { $0 } }
      set { self.mutex.withLock { $0 = newValue } }
    }

    init(_ value: Value) { self.mutex = Mutex(value) }
  }

  private actor Pooled {
    var sum = 0
    func add(_ number: Int) { self.sum += number }
  }

  /// Twenty tasks that sleep and meet in two actors.
  private func race(seed: UInt64) -> (hash: UInt64, order: [Int], elapsed: Duration) {
    let simulation = Simulation(seed: seed)
    let host = SimulatedHost("host", in: simulation)
    let life = host.boot()
    let runtime = life.runtime
    let counter = Counter(runtime)
    let pooled = Pooled()
    let seen = Kept<[Int]>([])
    life.start {
      await withDiscardingTaskGroup { group in
        for number in 0..<20 {
          group.addTask {
            try? await runtime.sleep(for: .milliseconds(Int(runtime.random() % 50)))
            await counter.add(number)
            await pooled.add(number)
            await Task.yield()
            await counter.add(number + 100)
          }
        }
      }
      let order = await counter.order
      seen.value = order
    }
    simulation.run(until: .seconds(10)) { !seen.value.isEmpty }
    #expect(simulation.failure == nil)
    return (simulation.trace.hash, seen.value, simulation.elapsed)
  }

  @Test func `a seed makes the same run again, and another seed another one`() {
    let runs = (0..<20).map { self.race(seed: $0) }
    for (seed, run) in runs.enumerated() {
      let again = self.race(seed: UInt64(seed))
      #expect(again.hash == run.hash)
      #expect(again.order == run.order)
      #expect(run.order.count == 40)
    }
    #expect(Set(runs.map(\.order)).count == 20)
  }

  @Test func `time passes only where nothing is ready, and an hour takes none of ours`() {
    let simulation = Simulation(seed: 3)
    let host = SimulatedHost("host", in: simulation)
    let life = host.boot()
    let runtime = life.runtime
    let woke = Kept<Duration?>(nil)
    life.start {
      let before = runtime.now()
      try? await runtime.sleep(for: .seconds(3_600))
      woke.value = runtime.now() - before
    }
    simulation.run(until: .seconds(7_200))
    let slept = woke.value
    #expect((Duration.seconds(3_600) ... .seconds(3_603)).contains(slept ?? .zero))
    #expect(simulation.elapsed >= .seconds(7_200))
  }

  @Test func `a sleep ends when its task is cancelled`() {
    let simulation = Simulation(seed: 4)
    let life = SimulatedHost("host", in: simulation).boot()
    let runtime = life.runtime
    let wasCancelled = Kept(false)
    life.start {
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          do { try await runtime.sleep(for: .seconds(1 << 20)) } catch {
            wasCancelled.value = error is CancellationError
          }
        }
        group.cancelAll()
      }
    }
    simulation.run(until: .seconds(1))
    #expect(wasCancelled.value)
  }

  @Test func `nothing of a host that died goes on`() {
    let simulation = Simulation(seed: 5)
    let host = SimulatedHost("host", in: simulation)
    let life = host.boot()
    let runtime = life.runtime
    let rounds = Kept(0)
    life.start {
      while true {
        try? await runtime.sleep(for: .milliseconds(10))
        rounds.value += 1
      }
    }
    var atDeath = 0
    simulation.at(.seconds(1)) {
      host.die(.killed)
      atDeath = rounds.value
    }
    simulation.run(until: .seconds(2))
    #expect(atDeath > 10)
    #expect(rounds.value == atDeath)
  }

  @Test func `a task that leaves the simulation fails it`() {
    let simulation = Simulation(seed: 6)
    let life = SimulatedHost("host", in: simulation).boot()
    life.start { Task {} }
    simulation.run(until: .seconds(1))
    #expect(simulation.failure?.contains("Swift pool") == true)
  }

  @Test func `what is published keeps its order, however close together it arrives`() {
    for seed in 0..<100 as Range<UInt64> {
      let simulation = Simulation(seed: seed)
      let network = SimulatedNetwork(simulation)
      network.faults.delay = .zero ... .microseconds(1)
      let (one, other) = (SimulatedHost("one", in: simulation), SimulatedHost("other", in: simulation))
      let life = one.boot()
      _ = other.boot()
      let arrived = Kept<[Int]>([])
      for number in 0..<10 {
        network.publish(from: life, to: other, stream: "numbers") { _ in arrived.value.append(number) }
      }
      simulation.run(until: .seconds(1))
      #expect(arrived.value == Array(0..<10))
    }
  }
}
