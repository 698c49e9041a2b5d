import Foundation

/// The clocks, pauses, randomness and threads that a part runs on: passed in, so that a simulation drives them by a seed.
///
/// Durations and deadlines use ``now``, which no clock step moves; ``unixNanos`` is for what people read.
public struct Runtime: Sendable {
  /// Monotonic time.
  public var now: @Sendable () -> ContinuousClock.Instant
  /// Nanoseconds since 1970, UTC. May jump either way.
  public var unixNanos: @Sendable () -> Int64
  /// Returns at an instant of ``now``.
  /// - Throws: `CancellationError`.
  public var sleepUntil: @Sendable (ContinuousClock.Instant) async throws -> Void
  /// 64 random bits.
  public var random: @Sendable () -> UInt64
  /// Where tasks run that are begun outside of an actor: `Task(executorPreference: runtime.taskExecutor)`. Nil for the pool.
  public var taskExecutor: (any TaskExecutor)?
  /// A thread for an actor whose work blocks.
  /// - Parameter label: what a debugger calls it.
  public var makeSerialExecutor: @Sendable (_ label: String) -> any SerialExecutor

  public init(
    now: @escaping @Sendable () -> ContinuousClock.Instant, unixNanos: @escaping @Sendable () -> Int64,
    sleepUntil: @escaping @Sendable (ContinuousClock.Instant) async throws -> Void,
    random: @escaping @Sendable () -> UInt64, taskExecutor: (any TaskExecutor)?,
    makeSerialExecutor: @escaping @Sendable (_ label: String) -> any SerialExecutor
  ) {
    self.now = now
    self.unixNanos = unixNanos
    self.sleepUntil = sleepUntil
    self.random = random
    self.taskExecutor = taskExecutor
    self.makeSerialExecutor = makeSerialExecutor
  }

  /// The machine's.
  public static let system = Runtime(
    now: { .now }, unixNanos: { UnixTime.now },
    sleepUntil: { try await Task.sleep(until: $0, clock: .continuous) },
    random: { .random(in: 0 ... .max) }, taskExecutor: nil,
    makeSerialExecutor: { QueueExecutor(label: $0) })

  /// - Throws: `CancellationError`.
  public func sleep(for duration: Duration) async throws {
    try await self.sleepUntil(self.now() + duration)
  }

  /// ``random`` as the standard library asks for it.
  public var generator: some RandomNumberGenerator { Generator(next: self.random) }

  private struct Generator: RandomNumberGenerator {
    let draw: @Sendable () -> UInt64
    init(next: @escaping @Sendable () -> UInt64) { self.draw = next }
    mutating func next() -> UInt64 { self.draw() }
  }
}

/// Time as the schemas write it.
public enum UnixTime {
  /// Nanoseconds since 1970, UTC.
  public static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}
