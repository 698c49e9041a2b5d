package import Schemas
package import Trials

/// Puts the events of trial streams together. A value: no socket, no clock, no disk.
///
/// Memory is bounded: trials, bytes of each, bytes of all. What does not fit is told to its robot, which still has it.
package struct TrialAssembler: Sendable {
  package struct Limits: Sendable {
    /// Trials that may be open at once.
    package var openTrials = 512
    /// Bytes of one trial, as encoded.
    package var trialBytes = 128 << 20
    /// Bytes of all open trials.
    package var totalBytes = 1 << 30
    /// Events of one trial.
    package var events: UInt32 = 100_000
    /// Nanoseconds without an event after which an open trial is asked for again, and then forgotten.
    package var quietNanos: Int64 = 5_000_000_000
    package init() {}
  }

  /// What follows from an event.
  package enum Step: Sendable, Equatable {
    /// Nothing yet.
    case wait
    /// The trial is whole.
    case complete(TrialRecord)
    /// Its robot must be told this.
    case tell(TrialAcknowledgement)
  }

  private struct Open {
    var events: [UInt32: TrialEvent] = [:]
    var bytes = 0
    /// Number of the end, once it came.
    var last: UInt32?
    var touchedNanos: Int64
  }

  private struct Key: Hashable {
    var robot: String
    var trialID: String
  }

  private let limits: Limits
  private var open: [Key: Open] = [:]
  private var totalBytes = 0

  package init(limits: Limits = .init()) { self.limits = limits }

  package var openTrials: Int { self.open.count }

  /// Takes one event.
  /// - Parameter bytes: its encoded size.
  package mutating func add(_ event: TrialEvent, bytes: Int, nowNanos: Int64) -> Step {
    if let reason = Self.refusal(of: event, limits: self.limits) {
      return .tell(Self.acknowledgement(event, .refused, reasons: [reason]))
    }
    let key = Key(robot: event.robot, trialID: event.trialID)
    var trial = self.open[key] ?? Open(touchedNanos: nowNanos)
    if self.open[key] == nil, self.open.count >= self.limits.openTrials {
      return .tell(
        Self.acknowledgement(
          event, .incomplete, reasons: ["too many open trials; send it through Upload later"]))
    }
    guard trial.events[event.number] == nil else { return .wait }
    guard trial.bytes + bytes <= self.limits.trialBytes else {
      self.forget(key)
      return .tell(
        Self.acknowledgement(
          event, .refused, reasons: ["a trial may have \(self.limits.trialBytes) bytes at most"]))
    }
    guard self.totalBytes + bytes <= self.limits.totalBytes else {
      self.forget(key)
      return .tell(
        Self.acknowledgement(event, .incomplete, reasons: ["no memory left; send it through Upload later"]))
    }
    trial.events[event.number] = event
    trial.bytes += bytes
    trial.touchedNanos = nowNanos
    self.totalBytes += bytes
    if case .end = event.event { trial.last = event.number }
    self.open[key] = trial
    guard let last = trial.last else { return .wait }
    guard trial.events.count == Int(last) + 1 else {
      // The end came before something else: it was lost on the way, or comes out of order.
      return .tell(Self.incomplete(key.robot, key.trialID, trial))
    }
    self.forget(key)
    return .complete(TrialRecord(events: (0...last).compactMap { trial.events[$0] }))
  }

  /// Forgets trials that have been quiet for too long, and says what to tell their robots.
  package mutating func expire(nowNanos: Int64) -> [TrialAcknowledgement] {
    let quiet = self.open.filter { nowNanos - $0.value.touchedNanos >= self.limits.quietNanos }
    return quiet.sorted { $0.key.trialID < $1.key.trialID }.map { key, trial in
      self.forget(key)
      return Self.incomplete(key.robot, key.trialID, trial)
    }
  }

  private mutating func forget(_ key: Key) {
    if let trial = self.open.removeValue(forKey: key) { self.totalBytes -= trial.bytes }
  }

  private static func incomplete(_ robot: String, _ id: String, _ trial: Open) -> TrialAcknowledgement {
    var missing: [EventRange] = []
    var next: UInt32 = 0
    for number in trial.events.keys.sorted() {
      if number > next { missing.append(EventRange(first: next, last: number - 1)) }
      next = number + 1
    }
    // Without an end nobody knows how many follow; an open range says so.
    if trial.last == nil { missing.append(EventRange(first: next, last: .max)) }
    return TrialAcknowledgement(robot: robot, trialID: id, state: .incomplete, missing: missing)
  }

  private static func acknowledgement(
    _ event: TrialEvent, _ state: TrialState, reasons: [String]
  ) -> TrialAcknowledgement {
    TrialAcknowledgement(robot: event.robot, trialID: event.trialID, state: state, reasons: reasons)
  }

  /// Why an event can never be part of a trial; nil where it can.
  package static func refusal(of event: TrialEvent, limits: Limits) -> String? {
    for (what, text) in [("robot", event.robot), ("trial_id", event.trialID)] where !Self.isName(text) {
      return "\(what) must have 1 to 64 letters, digits, '.', '_' or '-'"
    }
    guard event.number < limits.events else { return "a trial may have \(limits.events) events at most" }
    switch event.event {
    case nil: return "an event must be a header, steps, a video or an end"
    case .header where event.number != 0: return "a header must be event 0"
    case .header(let header) where header.robot != event.robot || header.trialID != event.trialID:
      return "the header names another robot or trial than its event"
    default: return nil
    }
  }

  package static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
          || [0x2D, 0x2E, 0x5F].contains($0)
      } && text != "." && text != ".."
  }
}
