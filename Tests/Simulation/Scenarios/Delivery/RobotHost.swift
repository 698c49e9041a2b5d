import GRPCCore
import Logging
import RobotCore
import Schemas
import SimulationKit
import Storage
import Trials

/// A robot's spool and delivery, and a control program that gives it trials.
final class RobotHost: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  let host: SimulatedHost
  private let network: SimulatedNetwork
  private let oracle: DeliveryOracle
  private unowned let ingest: IngestHost
  private let pauses: ClosedRange<Duration>
  private var random: SimulationRandom
  private var trials = 0
  /// Whether new trials begin.
  var isWorking = true
  private var acknowledgements: AsyncStream<TrialAcknowledgement>.Continuation?
  private var spool: Spool?
  /// Since when its disk lets nothing be read; nil where it does.
  private var silence: Duration?
  /// Uploads that it began.
  private(set) var uploads = 0
  private static let folder = "/robot/spool"

  init(
    _ name: String, network: SimulatedNetwork, oracle: DeliveryOracle, ingest: IngestHost,
    pauses: ClosedRange<Duration>, in simulation: Simulation
  ) {
    self.host = SimulatedHost(name, in: simulation)
    self.network = network
    self.oracle = oracle
    self.ingest = ingest
    self.pauses = pauses
    self.random = simulation.random.fork()
    self.watch()
  }

  /// Tells the oracle what becomes of the files of trials.
  private func watch() {
    self.host.platter.didRemove = { [unowned self] path in
      if let key = self.key(path, in: "ready") { self.oracle.removed(key) }
    }
    self.host.platter.didMove = { [unowned self] path in
      guard let key = self.key(path, in: "refused"), !path.hasSuffix(".untold"), !path.hasSuffix(".reason")
      else { return }
      let silence = self.silence.map { self.host.simulation.elapsed - $0 } ?? .zero
      let isDiskDead = self.host.platter.faults.read == 1 && silence > .seconds(10)
      self.oracle.setAside(key, isDamaged: self.host.platter.isFlipped(path), isDiskDead: isDiskDead)
    }
    self.host.platter.didRead = { [unowned self] path, reading in
      guard let key = self.key(path, in: "ready") ?? self.key(path, in: "refused") else { return }
      switch reading {
      case .failed: self.oracle.wasNotRead(key)
      case .done(isWhole: true): self.oracle.wasRead(key)
      case .done(isWhole: false): break
      }
    }
  }

  private func key(_ path: String, in part: String) -> TrialKey? {
    Self.trialID(path, in: part).map { TrialKey(robot: self.host.name, trialID: $0) }
  }

  /// The id in `/robot/spool/PART/000000000001_ID`; nil for other files.
  private static func trialID(_ path: String, in part: String) -> String? {
    guard path.hasPrefix("\(Self.folder)/\(part)/"), let mark = path.firstIndex(of: "_") else { return nil }
    return String(path[path.index(after: mark)...])
  }

  /// Harms something small that the robot keeps beside its trials.
  func harmSmallFile() {
    let decay = self.random.pick([Platter.Decay.flippedBit, .badSector])
    // Beginnings of files are read by nobody, and their names are of no seed.
    self.host.platter.decay(decay, below: Self.folder) {
      $0.hasPrefix("\(Self.folder)/ledger") && !$0.hasSuffix(".partial")
    }
  }

  /// Whether a trial's file is in the spool, filed or not.
  private func lies(_ trialID: String) -> Bool {
    let files = self.host.platter.files(below: Self.folder, durably: false).map(\.path)
    return files.contains {
      $0 == "\(Self.folder)/open/\(trialID)" || Self.trialID($0, in: "ready") == trialID
    }
  }

  /// Makes a part of a filed trial unreadable, or another than it was.
  func harmTrial() {
    let decay = self.random.pick([Platter.Decay.flippedBit, .badSector])
    self.host.platter.decay(decay, below: "\(Self.folder)/ready")
  }

  /// For some time the disk lets nothing be read.
  func silenceDisk(for time: Duration, then faults: @escaping () -> DiskFaults) {
    guard self.silence == nil else { return }
    self.host.simulation.note("\(self.host.name)'s disk lets nothing be read")
    self.host.platter.faults.read = 1
    self.silence = self.host.simulation.elapsed
    self.host.simulation.after(time) { [unowned self] in
      self.host.simulation.note("\(self.host.name)'s disk lets itself be read again")
      self.host.platter.faults = faults()
      self.silence = nil
    }
  }

  /// Whether a trial lies where a person is to look at it, with the reason beside it.
  func isPutAside(_ trialID: String) -> Bool {
    let files = self.host.platter.files(below: "\(Self.folder)/refused", durably: true).map(\.path)
    return files.contains {
      Self.trialID($0, in: "refused") == trialID
        && (files.contains("\($0).reason") || files.contains("\($0).untold"))
    }
  }

  /// Trials that it keeps until it hears that ingest has them; nil while it is down.
  var pending: UInt32? { self.spool?.usage.trials }

  /// - Throws: what the disk says; the host is up and does nothing then.
  func boot() throws {
    let life = self.host.boot()
    let spool = try Spool(
      folder: Self.folder, limitBytes: 1 << 20, disk: life.disk, runtime: life.runtime)
    let delivery = Delivery(
      robot: self.host.name, spool: spool, runtime: life.runtime, logger: .silent,
      publish: { event in self.publish(event, from: life) },
      // Whoever files trials here finds that it is missing in the end.
      lost: { _, _, _ in },
      upload: { events, watch in try await self.upload(events, watch, from: life) })
    let (heard, acknowledgements) = AsyncStream<TrialAcknowledgement>.makeStream()
    (self.spool, self.acknowledgements) = (spool, acknowledgements)
    life.start { await delivery.run() }
    life.start { for await acknowledgement in heard { await delivery.hear(acknowledgement) } }
    life.start { await self.work(life, spool) }
    life.keep(spool)
    life.keep(delivery)
  }

  /// An acknowledgement arrives.
  func hear(_ acknowledgement: TrialAcknowledgement) { self.acknowledgements?.yield(acknowledgement) }

  private func publish(_ event: [UInt8], from life: HostLife) {
    self.network.publish(from: life, to: self.ingest.host, stream: "trials") { _ in self.ingest.hear(event) }
  }

  private func upload(
    _ events: [TrialEvent], _ watch: ProgressWatch, from life: HostLife
  ) async throws -> TrialAcknowledgement {
    if life.isAlive { self.uploads += 1 }
    return try await self.network.call(
      from: life, to: self.ingest.host, "Upload", requests: events, sent: { watch.moved() },
      serve: { life, requests in try await self.ingest.upload(requests, to: life) })
  }

  /// Nothing of a life that ended is called again.
  func forget() { (self.spool, self.acknowledgements) = (nil, nil) }

  // MARK: Trials

  private func work(_ life: HostLife, _ spool: Spool) async {
    let executor = life.runtime.makeSerialExecutor("recorder")
    while true {
      try? await life.runtime.sleep(for: self.random.within(self.pauses))
      // As an agent does that writes again what the disk refused.
      for trial in await spool.fileStranded() where self.lies(trial) {
        self.host.simulation.fail("\(self.host.name)/\(trial) is told to be gone, and its file is there")
      }
      guard self.isWorking else { continue }
      self.trials += 1
      let id = "t\(self.trials)"
      do {
        try await self.record(id, life, spool, executor)
      } catch {
        self.host.simulation.note("\(self.host.name)/\(id) is not filed: \(error)")
        await spool.discard(trialID: id)
      }
    }
  }

  private func record(
    _ id: String, _ life: HostLife, _ spool: Spool, _ executor: any SerialExecutor
  ) async throws {
    let path = try await spool.admit(trialID: id)
    let side = UInt32(SampleClips.side)
    let header = TrialHeader(
      trialID: id, robot: self.host.name, task: "reach", mode: .demonstration,
      startedUnixNanos: life.runtime.unixNanos(), imageHeight: side, imageWidth: side)
    let recorder = try TrialRecorder(
      header: header, path: path, disk: life.disk, executor: executor, limitBytes: 1 << 20,
      makeCompressor: { _, _ in SampleClips.Compressor() })
    let isBad = self.random.chance(0.1)
    for index in 0..<self.random.within(0...SampleClips.longest) {
      let step = TrialStep(
        index: UInt32(index), elapsedNanos: Int64(index) * 50_000_000,
        jointAngles: (0..<7).map { Float($0) * 0.1 + Float(index) * 0.01 },
        action: isBad ? [9, 9, 9, 9] : [0.1, -0.2, 0.3, 1], gripper: 0.5)
      try await recorder.append(step, image: [])
    }
    let bytes = try await recorder.finish(
      outcome: .success, failureCode: "", operatorIntervention: false,
      endedUnixNanos: life.runtime.unixNanos())
    guard life.isAlive,
      let file = self.host.platter.files(below: Self.folder, durably: false).first(where: { $0.path == path })
    else { return }
    let key = TrialKey(robot: self.host.name, trialID: id)
    self.oracle.recorded(key, file: file.bytes)
    _ = try await spool.file(trialID: id, bytes: bytes)
    if life.isAlive { self.oracle.filed(key) }
  }
}

extension Logger {
  /// Says nothing: a simulation tells by its trace.
  static var silent: Logger { Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() } }
}
