package import Schemas
package import Trials

/// Puts the events of trials together, of streams and of uploads. A value: no socket, no clock, no disk.
///
/// Memory is bounded for each trial, for each robot and for all of them, until a trial is stored. What does not fit is told to
/// its robot, which still has it.
package struct TrialAssembler: Sendable {
  package struct Limits: Sendable {
    /// Who may have how much here at once.
    package var shares = RobotShares.Limits()
    /// Bytes of one trial, as encoded.
    package var trialBytes = TrialLimits.bytes
    /// Events of one trial.
    package var events: UInt32 = 100_000
    /// Time without an event after which an open trial is asked for again, and then forgotten.
    package var quiet: Duration = .seconds(5)
    package init() {}
  }

  /// How a trial comes. What comes one way neither completes nor disturbs what comes another.
  package enum Source: Sendable, Hashable {
    case stream
    /// A call, by a number that no other has.
    case upload(UInt64)
  }

  /// What follows from an event.
  package enum Step: Sendable, Equatable {
    /// Nothing yet.
    case wait
    /// The trial is whole. It counts as its robot's until ``settled(robot:trialID:from:)``.
    case complete(TrialRecord)
    /// Its robot must be told this. What still comes of a stream that is refused is passed over.
    case tell(TrialAcknowledgement)
    /// There is no room for it now, and what came of the trial is forgotten: its robot must send it again later. What still
    /// comes of its stream is passed over.
    case noRoom(TrialAcknowledgement)
  }

  /// The events of one trial so far.
  private struct Open {
    var events: [UInt32: TrialEvent] = [:]
    /// As encoded.
    var bytes = 0
    /// In memory.
    var memory = 0
    /// The largest number that came.
    var highest: UInt32 = 0
    /// Number of the end, once it came.
    var end: UInt32?
    /// Its robot was told that something is missing.
    var isTold = false
    var touched: ContinuousClock.Instant

    /// Why an event cannot stand beside the others; nil where it can.
    func contradiction(of event: TrialEvent) -> String? {
      if let end, event.number > end { return "event \(event.number) comes after the end, event \(end)" }
      if case .end = event.event, event.number < self.highest {
        return "event \(self.highest) comes after the end, event \(event.number)"
      }
      return nil
    }

    mutating func take(_ event: TrialEvent, bytes: Int, memory: Int, now: ContinuousClock.Instant) {
      self.events[event.number] = event
      self.bytes += bytes
      self.memory += memory
      self.touched = now
      self.highest = max(self.highest, event.number)
      if case .end = event.event { self.end = event.number }
    }

    /// From 0 to the end without a hole: no number is above the end's, and each came once.
    var isWhole: Bool { self.end.map { self.events.count == Int($0) + 1 } ?? false }
  }

  private struct Key: Hashable {
    var robot: String
    var trialID: String
    var source: Source
  }

  /// Holes that are named at most; a stream of every second event has as many as a trial may have events.
  static let mostRanges = 64

  private let limits: Limits
  private var open: [Key: Open] = [:]
  /// Memory of trials that were whole and are not settled yet; a stream may bring one again meanwhile.
  private var settling: [Key: [Int]] = [:]
  private var turnedAway = TurnedAway()
  package private(set) var shares: RobotShares

  package init(limits: Limits = .init()) {
    self.limits = limits
    self.shares = RobotShares(limits: limits.shares)
  }

  /// Trials of which some events have come by stream and others have not.
  package var openStreams: Int { self.open.keys.count { $0.source == .stream } }

  /// Takes one event.
  /// - Parameters:
  ///   - bytes: its encoded size.
  ///   - now: monotonic.
  package mutating func add(
    _ event: TrialEvent, bytes: Int, from source: Source = .stream, now: ContinuousClock.Instant
  ) -> Step {
    let key = Key(robot: event.robot, trialID: event.trialID, source: source)
    if source == .stream, self.isPassedOver(event) { return .wait }
    if let reason = Self.refusal(of: event, limits: self.limits) ?? self.open[key]?.contradiction(of: event) {
      return self.refuse(key, reason)
    }
    guard self.open[key]?.events[event.number] == nil else { return .wait }
    guard (self.open[key]?.bytes ?? 0) + bytes <= self.limits.trialBytes else {
      return self.refuse(key, "a trial may have \(self.limits.trialBytes) bytes at most")
    }
    let memory = event.memory(encoded: bytes)
    // Room that it can never have is not worth waiting for.
    let largest = self.limits.shares.largestTrial
    guard (self.open[key]?.memory ?? 0) + memory <= largest else {
      return self.refuse(
        key, "a trial may take \(largest) bytes of ingest's memory at most (ingest.robot-megabytes)")
    }
    let trials = self.open[key] == nil ? 1 : 0
    if let shortage = self.shares.shortage(of: key.robot, trials: trials, bytes: memory) {
      self.turnAway(key)
      return .noRoom(Self.acknowledgement(key, .incomplete, reasons: [shortage]))
    }
    self.shares.take(key.robot, trials: trials, bytes: memory)
    // In place: the events that came before are not copied.
    self.open[key, default: Open(touched: now)].take(event, bytes: bytes, memory: memory, now: now)
    guard let trial = self.open[key], trial.end != nil else { return .wait }
    if trial.isWhole { return self.close(key) }
    // The end came before something else, which was lost on the way or comes out of order. Said once: one that still
    // arrives costs no more than any other event.
    guard !trial.isTold else { return .wait }
    self.open[key]?.isTold = true
    return .tell(Self.incomplete(key, trial))
  }

  /// Forgets what is open of a trial, because it came another way or its call is over.
  package mutating func forget(robot: String, trialID: String, from source: Source = .stream) {
    self.forget(Key(robot: robot, trialID: trialID, source: source))
  }

  /// A whole trial is stored, or is not going to be: its room is free again.
  package mutating func settled(robot: String, trialID: String, from source: Source = .stream) {
    let key = Key(robot: robot, trialID: trialID, source: source)
    guard var waiting = self.settling[key], let memory = waiting.popLast() else { return }
    self.settling[key] = waiting.isEmpty ? nil : waiting
    self.shares.giveBack(robot, bytes: memory)
  }

  /// Forgets streams of trials that have been quiet for too long, and says what to tell their robots. A call has limits of its
  /// own.
  package mutating func expire(now: ContinuousClock.Instant) -> [TrialAcknowledgement] {
    let over = self.open.filter { $0.key.source == .stream && now - $0.value.touched >= self.limits.quiet }
    return over.sorted { ($0.key.robot, $0.key.trialID) < ($1.key.robot, $1.key.trialID) }.map { key, trial in
      self.forget(key)
      return Self.incomplete(key, trial)
    }
  }

  /// Forgets what is open of a trial, because nothing more will come, and says what is missing.
  package mutating func giveUp(
    robot: String, trialID: String, from source: Source
  ) -> TrialAcknowledgement {
    let key = Key(robot: robot, trialID: trialID, source: source)
    defer { self.forget(key) }
    guard let trial = self.open[key] else { return Self.acknowledgement(key, .incomplete, reasons: []) }
    return Self.incomplete(key, trial)
  }

  private mutating func close(_ key: Key) -> Step {
    guard let trial = self.open.removeValue(forKey: key) else { return .wait }
    self.settling[key, default: []].append(trial.memory)
    return .complete(TrialRecord(events: trial.events.values.sorted { $0.number < $1.number }))
  }

  /// Whether an event belongs to a stream that was turned away: its robot was told, and without what came before it makes no
  /// trial. A stream that begins anew is a new one.
  private mutating func isPassedOver(_ event: TrialEvent) -> Bool {
    guard event.number == 0 else {
      return self.turnedAway.contains(robot: event.robot, trialID: event.trialID)
    }
    self.turnedAway.remove(robot: event.robot, trialID: event.trialID)
    return false
  }

  private mutating func turnAway(_ key: Key) {
    self.forget(key)
    if key.source == .stream { self.turnedAway.insert(robot: key.robot, trialID: key.trialID) }
  }

  private mutating func refuse(_ key: Key, _ reason: String) -> Step {
    self.turnAway(key)
    return .tell(Self.acknowledgement(key, .refused, reasons: [reason]))
  }

  private mutating func forget(_ key: Key) {
    if let trial = self.open.removeValue(forKey: key) {
      self.shares.giveBack(key.robot, bytes: trial.memory)
    }
  }

  private static func incomplete(_ key: Key, _ trial: Open) -> TrialAcknowledgement {
    var missing: [EventRange] = []
    var next: UInt32 = 0
    for number in trial.events.keys.sorted() where missing.count < Self.mostRanges {
      if number > next { missing.append(EventRange(first: next, last: number - 1)) }
      next = number + 1
    }
    // Without an end nobody knows how many follow; an open range says so, also where there are more holes than are named.
    if trial.end == nil || missing.count == Self.mostRanges {
      missing.append(EventRange(first: next, last: .max))
    }
    return TrialAcknowledgement(
      robot: key.robot, trialID: key.trialID, state: .incomplete, missing: missing)
  }

  private static func acknowledgement(
    _ key: Key, _ state: TrialState, reasons: [String]
  ) -> TrialAcknowledgement {
    TrialAcknowledgement(robot: key.robot, trialID: key.trialID, state: state, reasons: reasons)
  }

  /// Why an event can never be part of a trial; nil where it can.
  package static func refusal(of event: TrialEvent, limits: Limits) -> String? {
    for (what, text) in [("robot", event.robot), ("trial_id", event.trialID)] where !Names.isValid(text) {
      return "\(what) must have \(Names.rule)"
    }
    guard event.number < limits.events else { return "a trial may have \(limits.events) events at most" }
    switch event.event {
    case nil: return "an event must be a header, steps, a video or an end"
    case .header where event.number != 0: return "a header must be event 0"
    case .header(let header) where header.robot != event.robot || header.trialID != event.trialID:
      return "the header names another robot or trial than its event"
    case .header(let header): return TrialLimits.excess(of: header)
    case .steps, .video, .end: break
    }
    guard event.number > 0 else { return "event 0 must be a header" }
    guard case .end(let end) = event.event else { return nil }
    return TrialLimits.excess(of: end)
  }
}
