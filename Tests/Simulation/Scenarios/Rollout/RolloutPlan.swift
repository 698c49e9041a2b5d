import SimulationKit

/// What goes wrong in one seed, and how much; each leaves some kinds of fault out.
struct RolloutPlan {
  /// Shares of the seeds in which what lies on a robot's disk is harmed, and in which reading it fails now and then; 0 for never.
  private enum Share {
    static let memories = 0.15
    static let reads = 0.15
  }

  var robots: Int
  /// Time in which things go wrong; then everything works.
  var troubles: Duration
  var pauseBetweenOrders: ClosedRange<Duration>
  /// Chance that an order takes a release back; in seeds with 0 no robot is ever to lose a model.
  var rollbacks: Double
  /// Robots that come with a model that rollout never released.
  var equipped: Double
  /// Time that a trial lasts, in which its robot acts with the version that it began with; nil where there are none.
  var trials: ClosedRange<Duration>?
  var hosts = Troubles.Plan()
  var network = NetworkFaults()
  var robotDisk = DiskFaults()
  /// Time between two harms of what one robot remembers.
  var memories: ClosedRange<Duration>?
  /// Chances that rollout's database refuses a transaction, and that rollout dies before or after one.
  var storeFailures: Double
  var storeDeaths: Double
  /// Chances, per death of rollout, that its database is lost, and that an older copy is put in its place.
  var losses: Double
  var restorations: Double

  init(_ random: inout SimulationRandom) {
    self.robots = random.within(1...4)
    self.troubles = .seconds(random.within(30...180))
    self.pauseBetweenOrders = .milliseconds(200) ... .seconds(random.within(3...30))
    self.rollbacks = random.amount(0.1...0.7, in: 0.6)
    self.equipped = random.pick([0, 0.5, 1])
    self.trials = random.pauses(from: .milliseconds(500), longest: 5...60, in: 0.6)
    self.network.loss = random.amount(0.01...0.6, in: 0.6)
    self.network.duplication = random.amount(0.01...0.4, in: 0.5)
    self.network.reordering = random.amount(0.01...0.4, in: 0.5)
    self.network.breakage = random.amount(0.02...0.6, in: 0.6)
    self.network.delay = .microseconds(100) ... .milliseconds(random.pick([1, 5, 50, 500]))
    self.network.lateness = .milliseconds(1) ... .seconds(random.pick([2, 30]))
    self.storeFailures = random.amount(0.01...0.3, in: 0.4)
    self.storeDeaths = random.amount(0.005...0.05, in: 0.4)
    self.hosts.life = random.pauses(from: .milliseconds(50), longest: 10...90, in: 0.75)
    self.hosts.downtime = .milliseconds(10) ... .seconds(25)
    self.hosts.powerCuts = random.pick([0, 0.5, 1])
    self.losses = random.amount(0.1...0.6, in: 0.3)
    self.restorations = random.amount(0.1...0.6, in: 0.3)
    self.hosts.partitions = random.pauses(from: .seconds(1), longest: 5...60, in: 0.5)
    self.hosts.partition = .milliseconds(100) ... .seconds(40)
    self.hosts.clockJumps = random.pauses(from: .seconds(1), longest: 5...60, in: 0.3)
    if random.chance(0.6) {
      self.robotDisk.write = random.amount(0.01...0.2, in: 0.4)
      self.robotDisk.synchronize = random.amount(0.01...0.2, in: 0.5)
      self.robotDisk.synchronizeFolder = random.amount(0.01...0.3, in: 0.5)
      self.robotDisk.move = random.amount(0.01...0.2, in: 0.3)
      self.robotDisk.death = random.amount(0.005...0.05, in: 0.6)
    }
    self.robotDisk.read = random.amount(0.01...0.2, in: Share.reads)
    self.memories = random.pauses(from: .seconds(1), longest: 5...60, in: Share.memories)
  }
}
