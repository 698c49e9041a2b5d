/// What befalls the hosts of a scenario while there are troubles: they die and boot again, their clocks jump, and each is parted
/// now and then from the one in the middle.
public final class Troubles {
  /// What of it happens in one seed, and how often; nil for never.
  public struct Plan: Sendable {
    /// Time between deaths of one host.
    public var life: ClosedRange<Duration>?
    public var downtime: ClosedRange<Duration> = .milliseconds(10) ... .seconds(20)
    /// Chance that a death is a power cut.
    public var powerCuts = 0.0
    /// Time between partitions of one link.
    public var partitions: ClosedRange<Duration>?
    public var partition: ClosedRange<Duration> = .milliseconds(100) ... .seconds(30)
    /// Time between jumps of one clock.
    public var clockJumps: ClosedRange<Duration>?

    public init() {}
  }

  private struct Member {
    var host: SimulatedHost
    var boot: () throws -> Void
  }

  private let simulation: Simulation
  private let network: SimulatedNetwork
  private let plan: Plan
  private var random: SimulationRandom
  private var members: [Member] = []
  /// False once everything works.
  public private(set) var areOn = true
  public private(set) var kills = 0
  private var clockJumps = 0

  public init(_ plan: Plan, network: SimulatedNetwork) {
    self.plan = plan
    self.network = network
    self.simulation = network.simulation
    self.random = network.simulation.random.fork()
  }

  public var hosts: [SimulatedHost] { self.members.map(\.host) }

  /// Operations, messages and clocks that were harmed so far.
  public var faults: Int {
    self.hosts.reduce(self.network.failures + self.clockJumps) { $0 + $1.platter.failures }
  }

  /// Takes a host in; the first one is in the middle.
  /// - Parameters:
  ///   - boot: begins a life of it; what it throws ends that life at once.
  ///   - didDie: settles what the next life finds, within the job that the host died in.
  public func add(
    _ host: SimulatedHost, boot: @escaping () throws -> Void, didDie: @escaping (Death) -> Void
  ) {
    self.members.append(Member(host: host, boot: boot))
    let index = self.members.count - 1
    host.didDie = { [unowned self] death in
      self.kills += 1
      didDie(death)
      let downtime = self.areOn ? self.random.within(self.plan.downtime) : .seconds(1)
      self.simulation.after(downtime) { [unowned self] in self.boot(self.members[index]) }
    }
  }

  public func boot() {
    for member in self.members { self.boot(member) }
  }

  private func boot(_ member: Member) {
    guard member.host.life == nil else { return }
    do { try member.boot() } catch {
      // Names of beginnings of files are of no seed, and this text is part of the run.
      let text = "\(error)".replacing(/\.\d+\.partial/, with: ".*.partial")
      self.simulation.note("\(member.host.name) does not start: \(text)")
      if !self.areOn {
        self.simulation.fail("\(member.host.name) does not start on a disk that works: \(error)")
      }
      // Its supervisor starts it again.
      member.host.die(.killed)
    }
  }

  public func begin() {
    for host in self.hosts {
      self.again(self.plan.life) {
        host.die(self.random.chance(self.plan.powerCuts) ? .powerCut : .killed)
      }
      self.again(self.plan.clockJumps) {
        self.clockJumps += 1
        host.clockOffset += self.random.within(.seconds(-100_000) ... .seconds(100_000))
      }
    }
    guard let middle = self.hosts.first else { return }
    for host in self.hosts.dropFirst() {
      self.again(self.plan.partitions) {
        self.network.part(host, from: middle)
        self.simulation.after(self.random.within(self.plan.partition)) {
          self.network.join(host, with: middle)
        }
      }
    }
  }

  /// Does something again and again while there are troubles.
  public func again(_ pauses: ClosedRange<Duration>?, _ body: @escaping () -> Void) {
    guard let pauses else { return }
    self.simulation.after(self.random.within(pauses)) { [unowned self] in
      guard self.areOn else { return }
      body()
      self.again(pauses, body)
    }
  }

  /// From here on everything works: what was harmed stays so.
  public func end() {
    self.areOn = false
    self.network.faults = NetworkFaults()
    for host in self.hosts {
      host.platter.faults = DiskFaults()
      host.platter.capacity = .max
      if let middle = self.hosts.first, host !== middle { self.network.join(host, with: middle) }
    }
    self.boot()
  }
}
