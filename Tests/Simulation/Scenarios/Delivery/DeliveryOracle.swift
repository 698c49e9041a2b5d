import Schemas
import SimulationKit

/// Knows what was promised about each trial, and looks at the disks whether it holds.
///
/// What a disk harms after it was durable may be lost, and must be named: by ingest in its notes of damage, by a robot in a file
/// beside the trial that it has put aside.
final class DeliveryOracle {
  private struct Trial {
    /// Whether the spool said that it is filed.
    var isFiled = false
    /// Whether ingest said that it has it.
    var isAcknowledged = false
    /// Places in the log where the disk harmed it, and when it harmed the last that was whole.
    var harmed: Set<LogView.Copy> = []
    var harmedSince: Duration?
    /// Tries to read it in its spool that failed since the last that did not, and when the first of them did.
    var failedReads = 0
    var unreadableSince: Duration = .zero
  }

  /// How often, and for how long, a robot tries to read a trial that it sets aside.
  private static let reads = (count: 8, time: Duration.seconds(60))
  /// Longest time from finding a trial in the log to saying so.
  private static let answer: Duration = .seconds(10)

  private let simulation: Simulation
  private let log: LogView
  private var trials: [TrialKey: Trial] = [:]
  /// Whether a robot has put a trial aside, with the reason beside it.
  var isPutAside: (TrialKey) -> Bool = { _ in false }
  private(set) var filed = 0
  private(set) var duplicates = 0

  init(_ simulation: Simulation, log: LogView) {
    self.simulation = simulation
    self.log = log
  }

  // MARK: What happens

  /// A robot recorded a trial; whether it will be filed is open.
  func recorded(_ key: TrialKey, file: [UInt8]) {
    self.trials[key] = Trial()
    self.log.expect(key, Self.messages(ofSpoolFile: file))
  }

  func filed(_ key: TrialKey) {
    self.trials[key]?.isFiled = true
    self.filed += 1
    self.simulation.note("\(key) is filed")
  }

  /// Ingest says that it has a trial: then it survives whatever comes next, a power cut at this moment included.
  func acknowledged(_ acknowledgement: TrialAcknowledgement) {
    let key = TrialKey(robot: acknowledgement.robot, trialID: acknowledgement.trialID)
    self.simulation.note("\(key) is said to be \(acknowledgement.state)")
    switch acknowledgement.state {
    case .stored, .duplicate, .quarantined: break
    case .refused:
      return self.simulation.fail("\(key) was refused: \(acknowledgement.reasons.joined(separator: "; "))")
    default: return
    }
    guard let trial = self.trials[key] else {
      return self.simulation.fail("\(key), which nobody recorded, is acknowledged")
    }
    self.trials[key]?.isAcknowledged = true
    let copies = self.log.copies(durably: true)[key] ?? []
    let isJustHarmed = trial.harmedSince.map { self.simulation.elapsed - $0 < Self.answer } ?? false
    if copies.allSatisfy(\.isHarmed), !isJustHarmed {
      self.simulation.fail("\(key) is acknowledged (\(acknowledgement.state)) and not durable")
    }
  }

  /// A robot deleted a trial. One whose filing failed it may take back: nobody was told that it is durable.
  func removed(_ key: TrialKey) {
    self.simulation.note("\(key) leaves its spool")
    if let trial = self.trials[key], trial.isFiled, !trial.isAcknowledged {
      self.simulation.fail("\(key) left its spool and was never acknowledged")
    }
  }

  /// A robot's disk let a trial be read as a whole.
  func wasRead(_ key: TrialKey) { self.trials[key]?.failedReads = 0 }

  /// A robot's disk did not let a trial be read.
  func wasNotRead(_ key: TrialKey) {
    guard let trial = self.trials[key] else { return }
    if trial.failedReads == 0 { self.trials[key]?.unreadableSince = self.simulation.elapsed }
    self.trials[key]?.failedReads += 1
  }

  /// A robot has put a trial aside: rightly only where the disk has changed it, or has refused it for as long as it may be tried
  /// while it let others be read.
  func setAside(_ key: TrialKey, isDamaged: Bool, isDiskDead: Bool) {
    self.simulation.note("\(key) is set aside")
    guard let trial = self.trials[key], !isDamaged else { return }
    let time = self.simulation.elapsed - trial.unreadableSince
    if isDiskDead { self.simulation.fail("\(key) is set aside while its disk lets nothing be read") }
    if trial.failedReads < Self.reads.count || time < Self.reads.time {
      self.simulation.fail(
        "\(key) is set aside, and could not be read \(trial.failedReads) times"
          + (trial.failedReads > 0 ? " in \(time)" : ""))
    }
  }

  /// The disk has harmed something of the log.
  func logDecayed() {
    for (key, copies) in self.log.copies(durably: false) {
      let harmed = copies.filter(\.isHarmed)
      guard !harmed.isEmpty else { continue }
      let isNews = self.trials[key]?.harmed.isSuperset(of: harmed) == false
      self.trials[key]?.harmed.formUnion(harmed)
      if isNews, harmed.count == copies.count { self.trials[key]?.harmedSince = self.simulation.elapsed }
    }
  }

  // MARK: What must hold

  /// Called when ingest has started anew: everything that was acknowledged is there, and nothing is there twice.
  func checkLog() {
    let stored = self.log.copies(durably: false)
    for (key, trial) in self.sorted
    where trial.isAcknowledged && stored[key] == nil && trial.harmed.isEmpty {
      self.simulation.fail("\(key) was acknowledged and is gone from the log")
    }
    for (key, copies) in stored.sorted(by: { $0.key < $1.key }) {
      let whole = copies.filter { !$0.isHarmed }
      guard whole.count > 1, !self.isMistaken(key, whole) else { continue }
      self.duplicates += whole.count - 1
      self.simulation.fail("\(key) is in the log \(whole.count) times")
    }
  }

  /// Whether ingest could not read what was there, and said so.
  private func isMistaken(_ key: TrialKey, _ copies: [LogView.Copy]) -> Bool {
    self.log.isNamed(key, places: Set(copies)) && copies.contains(where: self.log.wasUnreadable)
  }

  /// Filed trials that are not in the log.
  var missing: [TrialKey] {
    let stored = self.log.copies(durably: true)
    return self.sorted.filter { key, trial in
      trial.isFiled && stored[key] == nil && trial.harmed.isEmpty && !self.isPutAside(key)
    }.map(\.key)
  }

  /// Filed trials that ingest has never answered for. One whose file cannot be deleted stays in its spool until a restart.
  var unacknowledged: [TrialKey] {
    self.sorted.filter { $0.value.isFiled && !$0.value.isAcknowledged && !self.isPutAside($0.key) }
      .map(\.key)
  }

  /// Trials that ingest is to give back when it is asked for them.
  var promised: [TrialKey] { self.sorted.filter(\.value.isAcknowledged).map(\.key) }

  /// Ingest was asked for a trial.
  /// - Parameter trial: its events, encoded; nil where ingest has no such trial, or has it no more.
  func read(_ key: TrialKey, _ trial: LogReading.Messages?) {
    if let trial {
      if trial != self.log.messages(of: key) {
        self.simulation.fail("\(key) is not given back as its robot wrote it")
      }
      return
    }
    let copies = self.log.copies(durably: true)[key] ?? []
    let places = Set(copies).union(self.trials[key]?.harmed ?? [])
    guard copies.allSatisfy(\.isHarmed) || self.isMistaken(key, copies) else {
      return self.simulation.fail("\(key) stands in the log and is not given back")
    }
    if !self.log.isNamed(key, places: places) {
      self.simulation.fail("\(key) was damaged, is not given back, and nobody says so")
    }
  }

  var storedCount: Int { self.log.copies(durably: true).count }

  private var sorted: [(key: TrialKey, value: Trial)] { self.trials.sorted { $0.key < $1.key } }

  /// A spool file is 8 bytes of head, then for each event 4 bytes of checksum, its length as 4 bytes, and the event.
  private static func messages(ofSpoolFile file: [UInt8]) -> LogReading.Messages {
    var messages: LogReading.Messages = []
    var offset = 8
    while offset + 8 <= file.count {
      let length = (0..<4).reversed().reduce(0) { $0 << 8 | Int(file[offset + 4 + $1]) }
      messages.append(Array(file[offset + 8..<offset + 8 + length]))
      offset += 8 + length
    }
    return messages
  }
}
