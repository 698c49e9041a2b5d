import Foundation

/// Starts the processes of a fleet in order, starts again what crashed, and ends all of them.
///
/// A process that cannot start at all ends the fleet's start; one that ends later never ends the fleet: it is started
/// again with back-off, and what it left down meanwhile is told by its log, `fleet status` and the monitor's probes.
package actor Supervisor {
  /// Time that processes have to end by themselves before they are killed.
  static let gracePeriod: Duration = .seconds(6)
  private static let round: Duration = .milliseconds(200)

  private struct Charge {
    var child: ChildProcess
    var policy: RestartPolicy
    var started: ContinuousClock.Instant
    var since: Date
    /// When it is started again; nil while it runs.
    var restart: ContinuousClock.Instant?
  }

  package let layout: FleetLayout
  private let policy: RestartPolicy
  private var charges: [Charge] = []
  private var stopping = false
  private let report: @Sendable (String) -> Void

  package init(
    layout: FleetLayout, policy: RestartPolicy = RestartPolicy(),
    report: @escaping @Sendable (String) -> Void
  ) {
    self.layout = layout
    self.policy = policy
    self.report = report
  }

  /// Starts a process and waits until it is ready.
  /// - Parameter saysReady: false for a program that says nothing when it is.
  @discardableResult
  package func start(_ child: ChildProcess, saysReady: Bool = true) async throws -> ChildProcess {
    try child.start()
    self.charges.append(Charge(child: child, policy: self.policy, started: .now, since: .now))
    if saysReady { try await child.waitUntilReady() }
    self.writeTable()
    return child
  }

  package var status: [(name: String, process: Int32, running: Bool, starts: Int)] {
    self.charges.map {
      ($0.child.name, $0.child.processIdentifier, $0.child.isRunning, $0.child.starts)
    }
  }

  /// Starts crashed processes again until it is cancelled.
  package func watch() async throws {
    while !self.stopping {
      try await Task.sleep(for: Self.round)
      var changed = false
      for index in self.charges.indices where !self.stopping && !self.charges[index].child.isRunning {
        if self.look(at: &self.charges[index]) { changed = true }
      }
      if changed { self.writeTable() }
    }
  }

  /// Notes that a process ended, or starts it again when its time has come.
  /// - Returns: whether anything changed.
  private func look(at charge: inout Charge) -> Bool {
    let now = ContinuousClock.now
    guard let restart = charge.restart else {
      self.noteEnd(of: &charge, after: now - charge.started)
      return true
    }
    guard now >= restart else { return false }
    charge.restart = nil
    charge.started = now
    charge.since = .now
    do {
      try charge.child.start()
    } catch {
      // What could be started once can be away for a while, as during an update.
      self.report("\(charge.child.name) cannot be started: \(error)")
      self.noteEnd(of: &charge, after: .zero)
    }
    return true
  }

  private func noteEnd(of charge: inout Charge, after uptime: Duration) {
    let child = charge.child
    let pause = charge.policy.pause(afterEndOf: uptime)
    charge.restart = .now + pause
    charge.since = .now
    let ended = "\(child.name) ended with status \(child.exitStatus ?? -1)"
    guard charge.policy.isLeftDown else {
      return self.report("\(ended); starting it again in \(pause)")
    }
    self.report(
      "ERROR: \(ended), \(charge.policy.fastEnds) times in a row within \(charge.policy.fastEnd) of its start; "
        + "it is left down for \(pause). The rest of the fleet goes on. Its log \(child.log.path) ends with:\n"
        + child.logTail())
  }

  private func writeTable() {
    let now = ContinuousClock.now
    let table = ProcessTable(
      processes: self.charges.map { charge in
        let child = charge.child
        return .init(
          name: child.name, process: child.processIdentifier, isRunning: charge.restart == nil,
          since: charge.since.timeIntervalSince1970, starts: child.starts,
          exitStatus: charge.restart == nil ? nil : child.exitStatus,
          nextStart: charge.restart.map { Date.now.timeIntervalSince1970 + ($0 - now).seconds },
          log: child.log.path)
      })
    do {
      try table.write(to: self.layout.processTable)
    } catch {
      self.report("cannot write \(self.layout.processTable.path): \(error)")
    }
  }

  /// Ends every process, the last started first, and waits for them; kills what does not end in time.
  package func stop() async {
    self.stopping = true
    let children = self.charges.map(\.child)
    for child in children.reversed() { child.terminate() }
    let deadline = ContinuousClock.now + Self.gracePeriod
    while children.contains(where: \.isRunning), ContinuousClock.now < deadline {
      // Not cancellable: a cancelled fleet must still take its processes along.
      await Self.pause(.milliseconds(50))
    }
    for child in children where child.isRunning {
      self.report("\(child.name) did not end within \(Self.gracePeriod); killing it")
      child.kill()
    }
    self.charges = []
    try? FileManager.default.removeItem(at: self.layout.processTable)
    try? FileManager.default.removeItem(at: self.layout.sockets)
  }

  private static func pause(_ duration: Duration) async {
    await withCheckedContinuation { continuation in
      DispatchQueue.global().asyncAfter(deadline: .now() + duration.seconds) { continuation.resume() }
    }
  }
}
