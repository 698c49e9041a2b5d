import Foundation

/// Starts the processes of a fleet in order, starts again what crashed, and ends all of them.
package actor Supervisor {
  /// Time that processes have to end by themselves before they are killed.
  static let gracePeriod: Duration = .seconds(6)
  /// Crashes of one process within ``crashWindow`` after which it is left down.
  static let maximumCrashes = 5
  static let crashWindow: Duration = .seconds(60)

  package let layout: FleetLayout
  private var children: [ChildProcess] = []
  private var crashes: [String: [ContinuousClock.Instant]] = [:]
  private var stopping = false
  private let report: @Sendable (String) -> Void

  package init(layout: FleetLayout, report: @escaping @Sendable (String) -> Void) {
    self.layout = layout
    self.report = report
  }

  /// Starts a process and waits until it is ready.
  /// - Parameter saysReady: false for a program that says nothing when it is.
  @discardableResult
  package func start(_ child: ChildProcess, saysReady: Bool = true) async throws -> ChildProcess {
    try child.start()
    self.children.append(child)
    if saysReady { try await child.waitUntilReady() }
    return child
  }

  package func child(_ name: String) -> ChildProcess? { self.children.first { $0.name == name } }

  package var status: [(name: String, process: Int32, running: Bool, starts: Int)] {
    self.children.map { ($0.name, $0.processIdentifier, $0.isRunning, $0.starts) }
  }

  /// Starts crashed processes again until it is cancelled.
  package func watch() async throws {
    while !self.stopping {
      try await Task.sleep(for: .milliseconds(500))
      for child in self.children where !child.isRunning && !self.stopping { try await self.restart(child) }
    }
  }

  private func restart(_ child: ChildProcess) async throws {
    let now = ContinuousClock.now
    let recent = self.crashes[child.name, default: []].filter { now - $0 < Self.crashWindow } + [now]
    self.crashes[child.name] = recent
    guard recent.count <= Self.maximumCrashes else {
      throw FleetError(
        .childFailed,
        "\(child.name) crashed \(recent.count) times within \(Self.crashWindow). Its log:\n\(child.logTail())"
      )
    }
    self.report("\(child.name) ended with status \(child.exitStatus ?? -1); starting it again")
    try child.start()
  }

  /// Ends every process, the last started first, and waits for them; kills what does not end in time.
  package func stop() async {
    self.stopping = true
    for child in self.children.reversed() { child.terminate() }
    let deadline = ContinuousClock.now + Self.gracePeriod
    while self.children.contains(where: \.isRunning), ContinuousClock.now < deadline {
      // Not cancellable: a cancelled fleet must still take its processes along.
      await Self.pause(.milliseconds(50))
    }
    for child in self.children where child.isRunning {
      self.report("\(child.name) did not end within \(Self.gracePeriod); killing it")
      child.kill()
    }
    self.children = []
    try? FileManager.default.removeItem(at: self.layout.sockets)
  }

  private static func pause(_ duration: Duration) async {
    await withCheckedContinuation { continuation in
      let (seconds, attoseconds) = duration.components
      let delay = Double(seconds) + Double(attoseconds) * 1e-18
      DispatchQueue.global().asyncAfter(deadline: .now() + delay) { continuation.resume() }
    }
  }
}
