import CZeroMQ
import Foundation
import Synchronization

/// What a loop drives: sockets, and work for them that other threads left.
protocol LoopDriver: AnyObject, Sendable {
  /// Does what can be done without waiting. On the loop's thread.
  /// - Returns: whether there may be more to do at once.
  func turn() -> Bool
  /// What ends the wait when ``turn()`` has nothing to do. On the loop's thread.
  func interests() -> LoopInterests
  /// The last call on the loop's thread: closes the sockets.
  func finish()
}

/// `@unchecked Sendable`: made and used on the loop's thread; it only passes through an actor's boundary there.
struct LoopInterests: @unchecked Sendable {
  var sockets: [(handle: UnsafeMutableRawPointer, events: Int32)] = []
  /// Nothing later than this ends the wait.
  var deadline: ContinuousClock.Instant?
}

/// One thread, and the sockets that only it touches: ZeroMQ's sockets belong to one thread at a time.
///
/// It is also an executor, so that an actor may live on it. Other threads leave their work in a queue of the
/// driver's and call ``wake()``, which costs a system call only while the thread sleeps.
final class SocketLoop: SerialExecutor {
  private let wakeup: CInt
  private let jobs = Mutex<[UnownedJob]>([])
  private let driver = Mutex<(any LoopDriver)?>(nil)
  private let thread = Mutex<pthread_t?>(nil)
  private let sleeping = Atomic<Bool>(false)
  private let signalled = Atomic<Bool>(false)
  private let stopped = Atomic<Bool>(false)

  /// - Throws: ``BusError`` with code `systemFailure` where the process has no file descriptor left.
  init() throws {
    self.wakeup = czmq_eventfd()
    guard self.wakeup >= 0 else {
      throw BusError(
        .systemFailure, "No file descriptor is left for another socket. \(DescriptorLimit.advice)")
    }
  }

  deinit { czmq_eventfd_close(self.wakeup) }

  /// Starts the thread, which keeps the driver and itself alive until ``stop()``.
  func start(_ driver: any LoopDriver, name: String) {
    self.driver.withLock { $0 = driver }
    let thread = Thread { [self] in self.run(driver) }
    // Linux shows the first 15 bytes.
    thread.name = name
    thread.stackSize = 1 << 20
    thread.start()
  }

  /// Ends the thread after the current turn. Any thread.
  func stop() {
    self.stopped.store(true, ordering: .sequentiallyConsistent)
    self.wake()
  }

  /// Makes the driver take a turn soon. Any thread.
  func wake() {
    self.signalled.store(true, ordering: .sequentiallyConsistent)
    if self.sleeping.exchange(false, ordering: .sequentiallyConsistent) { czmq_eventfd_signal(self.wakeup) }
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    self.jobs.withLock { $0.append(job) }
    self.wake()
  }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
  func checkIsolated() { precondition(self.isOnLoop, "A socket was touched off its loop's thread.") }
  func isIsolatingCurrentContext() -> Bool? { self.isOnLoop }
  var isOnLoop: Bool { self.thread.withLock { $0 == pthread_self() } }

  private func run(_ driver: any LoopDriver) {
    self.thread.withLock { $0 = pthread_self() }
    while !self.stopped.load(ordering: .sequentiallyConsistent) {
      self.runJobs()
      if driver.turn() { continue }
      // Either a producer sees that this thread sleeps, or this thread sees what the producer left.
      self.sleeping.store(true, ordering: .sequentiallyConsistent)
      if !self.signalled.exchange(false, ordering: .sequentiallyConsistent) { self.sleep(driver.interests()) }
      self.sleeping.store(false, ordering: .sequentiallyConsistent)
    }
    self.runJobs()
    driver.finish()
    self.driver.withLock { $0 = nil }
  }

  private func runJobs() {
    while true {
      let batch = self.jobs.withLock { jobs in
        defer { jobs.removeAll(keepingCapacity: true) }
        return jobs
      }
      if batch.isEmpty { return }
      for job in batch { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
  }

  private func sleep(_ interests: LoopInterests) {
    var items = [zmq_pollitem_t(socket: nil, fd: self.wakeup, events: Int16(ZMQ_POLLIN), revents: 0)]
    for interest in interests.sockets {
      items.append(
        zmq_pollitem_t(socket: interest.handle, fd: 0, events: Int16(interest.events), revents: 0))
    }
    var milliseconds = -1
    if let deadline = interests.deadline {
      let left = ContinuousClock.now.duration(to: deadline).components
      // Rounded up: waking before the deadline would only mean another turn for nothing.
      let whole = Double(left.seconds) * 1000 + Double(left.attoseconds) / 1e15
      milliseconds = Int(max(0, min(whole.rounded(.up), 60_000)))
    }
    _ = zmq_poll(&items, CInt(items.count), milliseconds)
    if items[0].revents != 0 { czmq_eventfd_drain(self.wakeup) }
  }
}
