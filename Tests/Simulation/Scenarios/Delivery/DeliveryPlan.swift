import SimulationKit

/// What goes wrong in one seed, and how much: each seed leaves some kinds of fault out, because those that are always there hide
/// what only happens without them.
struct DeliveryPlan {
  /// Shares of the seeds in which what lies on a disk is harmed; 0 for never.
  private enum Share {
    /// Reads that fail now and then, at ingest and at the robots.
    static let ingestReads = 0.15
    static let robotReads = 0.15
    /// Bits that turn, and sectors that cannot be read any more, in ingest's log.
    static let logBits = 0.15
    static let logSectors = 0.15
    /// The same in the robots' small files, and in their trials.
    static let smallFiles = 0.15
    static let spoolSectors = 0.15
    /// Times in which a robot's disk lets nothing be read.
    static let silences = 0.15
  }

  var robots: Int
  /// Time in which things go wrong; then everything works.
  var troubles: Duration
  var pauseBetweenTrials: ClosedRange<Duration>
  var hosts = Troubles.Plan()
  var network = NetworkFaults()
  var robotDisk = DiskFaults()
  var ingestDisk = DiskFaults()
  var catalogFailures: Double
  /// Chance that a database is lost with a life, or given back as it was before a power cut.
  var databaseLosses: Double
  /// Bytes that fit on ingest's disk until the troubles end; nil for all.
  var ingestCapacity: Int?
  var robotCapacity: Int?
  var logFileBytes: Int
  /// Trials of one robot for which ingest has room at once.
  var robotTrials = 64
  /// Time between two harms of what lies in ingest's log, in a robot's small files, and in its trials.
  var logBits: ClosedRange<Duration>?
  var logSectors: ClosedRange<Duration>?
  var smallFiles: ClosedRange<Duration>?
  var spoolSectors: ClosedRange<Duration>?
  /// Time between two silences of one robot's disk, and how long one is.
  var silences: ClosedRange<Duration>?
  let silence: ClosedRange<Duration> = .seconds(1) ... .seconds(120)

  init(_ random: inout SimulationRandom) {
    self.robots = random.within(1...3)
    self.troubles = .seconds(random.within(20...120))
    self.pauseBetweenTrials = .milliseconds(100) ... .seconds(random.within(2...12))
    self.network.loss = random.amount(0.01...0.5, in: 0.6)
    self.network.duplication = random.amount(0.01...0.2, in: 0.4)
    self.network.reordering = random.amount(0.01...0.2, in: 0.4)
    self.network.breakage = random.amount(0.02...0.6, in: 0.6)
    self.network.delay = .microseconds(100) ... .milliseconds(random.pick([1, 5, 50, 500]))
    self.catalogFailures = random.amount(0.01...0.3, in: 0.4)
    self.hosts.powerCuts = random.pick([0, 0.5, 1])
    self.databaseLosses = random.amount(0.1...0.6, in: 0.4)
    self.logFileBytes = random.pick([3_000, 8_000, 20_000, 1 << 20])
    self.hosts.life = random.pauses(from: .milliseconds(50), longest: 5...60, in: 0.75)
    self.hosts.partitions = random.pauses(from: .seconds(1), longest: 5...60, in: 0.5)
    self.hosts.clockJumps = random.pauses(from: .seconds(1), longest: 5...60, in: 0.4)
    self.ingestCapacity = random.chance(0.25) ? random.within(4_000...60_000) : nil
    self.robotCapacity = random.chance(0.15) ? random.within(4_000...40_000) : nil
    for disk in [\Self.robotDisk, \Self.ingestDisk] where random.chance(0.7) {
      self[keyPath: disk] = Self.disk(&random)
    }
    if random.chance(0.3) { self.robotTrials = random.within(1...3) }
    self.ingestDisk.read = random.amount(0.002...0.05, in: Share.ingestReads)
    self.robotDisk.read = random.amount(0.002...0.05, in: Share.robotReads)
    self.logBits = random.pauses(from: .seconds(1), longest: 10...60, in: Share.logBits)
    self.logSectors = random.pauses(from: .seconds(1), longest: 10...60, in: Share.logSectors)
    // Files of a few sectors are spared, see there.
    if self.logSectors != nil { self.logFileBytes = max(self.logFileBytes, 20_000) }
    self.smallFiles = random.pauses(from: .seconds(1), longest: 5...30, in: Share.smallFiles)
    self.spoolSectors = random.pauses(from: .seconds(1), longest: 5...30, in: Share.spoolSectors)
    self.silences = random.pauses(from: .seconds(1), longest: 5...60, in: Share.silences)
    // A robot whose every file is bad has a disk that fails, and rightly gives nothing up.
    if self.spoolSectors != nil { self.smallFiles = nil }
  }

  private static func disk(_ random: inout SimulationRandom) -> DiskFaults {
    var faults = DiskFaults()
    faults.open = random.amount(0.005...0.1, in: 0.3)
    faults.write = random.amount(0.005...0.15, in: 0.4)
    faults.truncate = random.amount(0.01...0.5, in: 0.3)
    faults.synchronize = random.amount(0.005...0.15, in: 0.5)
    faults.synchronizeFolder = random.amount(0.01...0.3, in: 0.4)
    faults.move = random.amount(0.01...0.2, in: 0.3)
    faults.remove = random.amount(0.01...0.2, in: 0.3)
    faults.death = random.amount(0.002...0.03, in: 0.6)
    return faults
  }
}
