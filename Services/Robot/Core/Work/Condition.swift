package import Schemas
import ServiceKit
package import Storage
import Synchronization

/// What a robot was told, at one moment.
package struct Standing: Sendable {
  /// How often it was told to stand still, earlier agents included. Who finds it grown does not move for what began before,
  /// though the robot may work again meanwhile.
  package var standstills: UInt64
  /// Why it may not work; nil where it may.
  package var obstacle: String?

  package init(standstills: UInt64 = 0, obstacle: String? = nil) {
    self.standstills = standstills
    self.obstacle = obstacle
  }
}

/// Whether this robot may work: a safety stop, which whoever stands beside the robot lifts, and the monitor's word on its
/// health, which the monitor lifts. Each change holds at once, whatever the disk does; ``keep()`` writes what holds, so that it
/// outlives a restart and a power cut.
package final class Condition: Sendable {
  private struct Kept: Codable {
    var stopReason: String?
    /// Why and by whom the last stop was lifted; nil from the next one on.
    var resumeReason: String?
    var unhealthyReason: String?
    var healthGeneration: UInt64 = 0
    /// As in ``Standing``; nil in what an older agent left.
    var standstills: UInt64?
  }

  private struct State {
    var kept = Kept()
    var changes: UInt64 = 0
    /// Why ``kept`` is not on the disk.
    var unkept: String?
  }

  /// Unicode scalars of a reason that are kept: every heartbeat carries them. A character may have any number of them.
  private static let reasonLength = 300

  /// Nil for a reason that says nothing.
  private static func kept(_ reason: String) -> String? {
    reason.isEmpty ? nil : reason.firstScalars(Self.reasonLength)
  }

  private let file: KeptFile<Kept>
  private let state: Mutex<State>
  private let writing: NewestWrite

  /// Opens what an earlier agent left. Where that is damaged, or has no hash because the agent was of an older kind, the
  /// robot is stopped: nobody knows that it was not.
  /// - Parameters:
  ///   - leftovers: told of what cannot be deleted; nil where nobody is.
  ///   - runtime: the thread of ``keep()``.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(
    folder: String, disk: any Disk = SystemDisk(), leftovers: Leftovers? = nil, runtime: Runtime = .system
  ) throws(RobotError) {
    self.writing = NewestWrite("condition", runtime: runtime)
    try onDisk { () throws(StorageError) in try disk.makeFolder(folder) }
    try (leftovers ?? Leftovers(disk: disk)).remove(in: folder)
    self.file = KeptFile(path: "\(folder)/condition.json", disk: disk)
    var state = State()
    switch self.file.read() {
    case .absent: break
    case .value(let kept): state.kept = kept
    case .damaged(let why):
      state.kept.stopReason = "after its start nobody knows whether it was stopped before. \(why)"
    }
    self.state = Mutex(state)
  }

  package var standing: Standing {
    let state = self.state.withLock { $0 }
    let stop = state.kept.stopReason.map { "The robot is stopped: \($0). Resume it once it is safe." }
    return Standing(
      standstills: state.kept.standstills ?? 0,
      obstacle: stop
        ?? state.kept.unhealthyReason.map {
          "The robot is unhealthy: \($0). Let the monitor resume it once it is repaired."
        })
  }

  /// Why the robot may not work; nil where it may.
  package var obstacle: String? { self.standing.obstacle }

  /// As in ``Standing``.
  package var standstills: UInt64 { self.state.withLock { $0.kept.standstills ?? 0 } }

  /// Something that was kept beside it knows of so many: the next one has a number of its own.
  func count(atLeast standstills: UInt64) {
    self.state.withLock { $0.kept.standstills = max(standstills, $0.kept.standstills ?? 0) }
  }

  package var isUnhealthy: Bool { self.state.withLock { $0.kept.unhealthyReason != nil } }

  /// Why the last stop, resume or directive is not on the disk yet, so that a restart may forget it; nil where it is.
  package var unkept: String? { self.state.withLock { $0.unkept } }

  /// What a heartbeat says. A stop is told first: it is the stronger one.
  package func robotState(working: Bool) -> RobotState {
    Self.robotState(self.state.withLock { $0.kept }, working: working)
  }

  private static func robotState(_ state: Kept, working: Bool) -> RobotState {
    if state.stopReason != nil { return .stopped }
    if state.unhealthyReason != nil { return .unhealthy }
    return working ? .working : .idle
  }

  /// Fills in what a heartbeat says of stop and resume.
  package func describe(in heartbeat: inout Heartbeat, working: Bool) {
    let state = self.state.withLock { $0.kept }
    heartbeat.state = Self.robotState(state, working: working)
    heartbeat.stopReason = state.stopReason ?? ""
    heartbeat.resumeReason = state.resumeReason ?? ""
  }

  package func stop(reason: String) {
    self.change(standsStill: true) { state, _ in
      state.stopReason = Self.kept(reason) ?? "no reason given"
      state.resumeReason = nil
      return true
    }
  }

  /// Lifts a stop; where there is none nothing changes.
  /// - Parameter standstills: those that are over: where the robot was told once more, nothing changes. Nil for all.
  package func resume(reason: String, after standstills: UInt64? = nil) {
    self.change(standsStill: false) { state, latest in
      guard state.stopReason != nil, latest == standstills ?? latest else { return false }
      state.stopReason = nil
      state.resumeReason = Self.kept(reason)
      return true
    }
  }

  /// Follows the monitor. An older directive than the last is ignored, as is a copy of the last: the monitor repeats it.
  /// - Returns: whether it is news.
  @discardableResult
  package func follow(_ directive: HealthDirective) -> Bool {
    self.change(standsStill: !directive.healthy) { state, _ in
      guard directive.generation > state.healthGeneration else { return false }
      state.healthGeneration = directive.generation
      state.unhealthyReason = directive.healthy ? nil : Self.kept(directive.reason) ?? "no reason given"
      return true
    }
  }

  /// - Parameter change: is given the standstills so far; returns false where there is nothing to change.
  @discardableResult
  private func change(standsStill: Bool, _ change: (inout Kept, UInt64) -> Bool) -> Bool {
    self.state.withLock { state in
      let standstills = state.kept.standstills ?? 0
      guard change(&state.kept, standstills) else { return false }
      if standsStill, standstills < .max { state.kept.standstills = standstills + 1 }
      state.changes += 1
      state.unkept = "the disk has not answered yet."
      return true
    }
  }

  /// Writes what holds, unless that is on the disk. Where the disk refuses it, ``unkept`` says why, until a later call succeeds.
  /// That goes on on a thread of its own, so that a disk that hangs holds up nobody else.
  package func keep() async { await self.writing.aside { self.write() } }

  private func write() -> Bool {
    let (kept, changes, isKept) = self.state.withLock { ($0.kept, $0.changes, $0.unkept == nil) }
    if isKept { return true }
    var failure: String?
    do throws(RobotError) { try self.file.write(kept) } catch { failure = error.message }
    self.state.withLock { if failure != nil || $0.changes == changes { $0.unkept = failure } }
    return failure == nil
  }
}
