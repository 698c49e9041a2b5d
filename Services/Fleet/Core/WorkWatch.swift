/// What is known of work that is followed: a robot that does not answer may still have some of it. A value, without I/O.
struct WorkWatch: Sendable {
  struct News: Equatable, Sendable {
    /// Robots that answered before, or were not asked yet, and do not now.
    var silent: [String] = []
    var answering: [String] = []
    /// Robots that hold trials back since now.
    var holding: [String] = []
  }

  let work: String
  /// Every order of it that was seen.
  private(set) var orders: Set<String> = []
  /// The most trials that were left at any time.
  private(set) var total: UInt32 = 0
  /// Trials left, by robot; of a silent one, as it said last.
  private var trials: [String: UInt32] = [:]
  /// Since when each robot is silent.
  private var away: [String: ContinuousClock.Instant] = [:]
  private var holding: Set<String> = []

  init(_ work: String) { self.work = work }

  var left: UInt32 { self.trials.values.reduce(0, +) }

  /// Notes what robots have.
  /// - Parameters:
  ///   - lines: orders of any work, of those that answered.
  ///   - silent: those that did not.
  mutating func note(
    _ lines: [Work.Line], silent: [String], at now: ContinuousClock.Instant = .now
  ) -> News {
    let open = lines.filter { WorkID.isPart($0.order, of: self.work) }
    self.orders.formUnion(open.map(\.order))
    let silent = Set(silent)
    self.trials = self.trials.filter { silent.contains($0.key) }
    for line in open { self.trials[line.robot, default: 0] += line.trials }
    self.total = max(self.total, self.left)
    let heldBack = Set(open.filter { $0.state == "held" }.map(\.robot))
    let news = News(
      silent: silent.subtracting(self.away.keys).sorted(),
      answering: Set(self.away.keys).subtracting(silent).sorted(),
      holding: heldBack.subtracting(self.holding).sorted())
    self.holding = heldBack
    self.away = Dictionary(uniqueKeysWithValues: silent.map { ($0, self.away[$0] ?? now) })
    return news
  }

  /// Whether every robot answered that it has nothing of it left.
  /// - Parameter again: what names the fleet in a command.
  /// - Throws: ``FleetError`` `.refused` where no robot ever had any of it, `.timedOut` where one is silent for longer than a
  ///   command waits.
  func isOver(again: String, at now: ContinuousClock.Instant = .now) throws(FleetError) -> Bool {
    let gone = self.away.filter { now - $0.value >= Patience.longest }.keys.sorted()
    guard gone.isEmpty else {
      throw FleetError(
        .timedOut,
        CommandHint.text(
          "\(gone.joined(separator: ", ")) did not answer for \(Patience.longest): nobody knows what is left of "
            + "\(self.work) there.", [.init("See", "fleet work list")], again: again))
    }
    guard self.away.isEmpty, self.left == 0 else { return false }
    guard !self.orders.isEmpty else {
      throw FleetError(
        .refused,
        CommandHint.text(
          "No robot has work '\(self.work)' left.", [.init("See", "fleet work list")], again: again))
    }
    return true
  }
}
