import GRPCCore
package import Logging
package import Schemas
package import ServiceKit
package import Storage
package import Trials

/// The heart of ingest, without sockets: events in, trials into the store, acknowledgements and outcomes out.
package actor Intake {
  /// What ingest tells the world.
  package enum Publication: Sendable {
    /// To the robot whose trial it is.
    case acknowledgement(TrialAcknowledgement)
    /// To whoever follows outcomes.
    case outcome(StoredOutcome)
  }

  /// May lose a publication: a robot that hears nothing asks again.
  package typealias Publish = @Sendable (Publication) async -> Void

  private let store: TrialStore
  private let runtime: Runtime
  private let metrics: MetricsRegistry
  private let vitals: Vitals
  private let logger: Logger
  private let publish: Publish
  private var assembler: TrialAssembler
  private var uploads: UInt64 = 0

  private static let trialLog = "trial log"

  /// - Parameter vitals: told of a disk that takes no trial.
  package init(
    store: TrialStore, limits: TrialAssembler.Limits = .init(), runtime: Runtime = .system,
    metrics: MetricsRegistry, vitals: Vitals, logger: Logger, publish: @escaping Publish
  ) {
    self.store = store
    self.runtime = runtime
    self.metrics = metrics
    self.vitals = vitals
    self.logger = logger
    self.publish = publish
    self.assembler = TrialAssembler(limits: limits)
  }

  /// Trials of which some events have come by stream and others have not.
  package var incompleteTrials: Int { self.assembler.openStreams }

  /// What is here of trials that are not stored yet.
  package var held: RobotShares.Holding { self.assembler.shares.all }

  // MARK: Streams

  /// Takes one event of a stream, and tells the robot where something is wrong with it.
  /// - Parameter bytes: its encoded size.
  /// - Returns: the trial where it is whole now: to be given to ``settle(_:)``.
  package func take(_ event: TrialEvent, bytes: Int) async -> TrialRecord? {
    self.metrics.increment("ingest_events_total")
    switch self.assembler.add(event, bytes: bytes, now: self.runtime.now()) {
    case .wait: return nil
    case .complete(let trial): return trial
    case .tell(let acknowledgement):
      await self.tell(acknowledgement)
      return nil
    case .noRoom(let acknowledgement):
      self.metrics.increment("ingest_turned_away_total")
      await self.tell(acknowledgement)
      return nil
    }
  }

  /// Stores a trial and tells its robot what became of it.
  package func settle(_ trial: TrialRecord) async { await self.settle(trial, from: .stream) }

  /// Asks once for what has fallen silent, and has the counters kept.
  package func expire() async {
    for acknowledgement in self.assembler.expire(now: self.runtime.now()) { await self.tell(acknowledgement) }
    self.metrics.set("ingest_open_trials", to: Double(self.assembler.openStreams))
    self.metrics.set("ingest_held_trials", to: Double(self.held.trials))
    self.metrics.set("ingest_held_bytes", to: Double(self.held.bytes))
    await self.store.flushCounters()
  }

  // MARK: Uploads

  /// Takes a whole trial, and returns what became of it once it is durable.
  /// - Parameters:
  ///   - events: of one trial, in any order.
  ///   - permit: throws where the caller may not send an event.
  /// - Throws: `RPCError` INVALID_ARGUMENT where the events are none or not of one trial, RESOURCE_EXHAUSTED where its robot or
  ///   all of them have too much here already: nothing was stored, and the trial should be sent again later; what `permit` and
  ///   `events` throw.
  package func upload<Events: AsyncSequence & Sendable>(
    _ events: Events, permit: @Sendable (TrialEvent) throws -> Void = { _ in }
  ) async throws -> TrialAcknowledgement where Events.Element == TrialEvent {
    self.uploads += 1
    let source = TrialAssembler.Source.upload(self.uploads)
    var first: TrialEvent?
    defer {
      if let first { self.assembler.forget(robot: first.robot, trialID: first.trialID, from: source) }
    }
    for try await event in events {
      try permit(event)
      if let first, first.robot != event.robot || first.trialID != event.trialID {
        throw RPCError(code: .invalidArgument, message: "An upload holds the events of one trial.")
      }
      if first == nil { first = event }
      switch self.assembler.add(event, bytes: event.serializedSize, from: source, now: self.runtime.now()) {
      case .wait: continue
      case .complete(let trial): return await self.settle(trial, from: source)
      case .tell(let acknowledgement):
        // What is missing at the end may still come.
        if acknowledgement.state == .incomplete { continue }
        await self.tell(acknowledgement)
        return acknowledgement
      case .noRoom(let acknowledgement):
        self.metrics.increment("ingest_turned_away_total")
        throw RPCError(
          code: .resourceExhausted, message: acknowledgement.reasons.joined(separator: "; "))
      }
    }
    guard let first else {
      throw RPCError(code: .invalidArgument, message: "An upload needs at least one event.")
    }
    return self.assembler.giveUp(robot: first.robot, trialID: first.trialID, from: source)
  }

  // MARK: The store

  @discardableResult
  private func settle(
    _ trial: TrialRecord, from source: TrialAssembler.Source
  ) async -> TrialAcknowledgement {
    let acknowledgement = await self.store(trial)
    self.assembler.settled(robot: trial.robot, trialID: trial.trialID, from: source)
    await self.tell(acknowledgement)
    return acknowledgement
  }

  /// Stores a trial and says what became of it. Nothing is acknowledged that is not durable.
  private func store(_ trial: TrialRecord) async -> TrialAcknowledgement {
    let start = self.runtime.now()
    var acknowledgement = TrialAcknowledgement(robot: trial.robot, trialID: trial.trialID)
    do {
      let verdict = try await self.store.store(trial)
      // A duplicate writes nothing, and says nothing of the disk.
      if verdict != .duplicate { self.vitals.recover(Self.trialLog) }
      switch verdict {
      case .stored:
        acknowledgement.state = .stored
        self.metrics.increment("ingest_trials_stored_total")
      case .duplicate:
        acknowledgement.state = .duplicate
        self.count("redelivered", metric: "ingest_trials_redelivered_total")
      case .quarantined(let reasons):
        acknowledgement.state = .quarantined
        acknowledgement.reasons = reasons.map(\.rawValue)
        self.metrics.increment(
          "ingest_trials_quarantined_total", labels: ["reason": reasons.first?.rawValue ?? ""])
        self.logger.notice(
          "trial quarantined",
          metadata: [
            "robot": "\(trial.robot)", "trial.id": "\(trial.trialID)",
            "trial.reasons": "\(acknowledgement.reasons.joined(separator: ","))",
          ])
      }
    } catch let error as TrialsError where error.code == .refused {
      // However often it comes: its robot puts it aside.
      self.assembler.forget(robot: trial.robot, trialID: trial.trialID)
      acknowledgement.state = .refused
      acknowledgement.reasons = [error.message]
      return acknowledgement
    } catch {
      self.logger.error("trial not stored", error: error, metadata: ["robot": "\(trial.robot)"])
      self.metrics.increment("ingest_store_failures_total")
      if let error = error as? TrialsError, error.code == .diskFull || error.code == .fileSystem {
        // The robot sends the trial again: when that is stored, the disk works again.
        self.vitals.fail(Self.trialLog, error.message)
      }
      acknowledgement.state = .incomplete
      acknowledgement.reasons = ["\(error)"]
      return acknowledgement
    }
    // What came by upload is not waited for on the stream any more.
    self.assembler.forget(robot: trial.robot, trialID: trial.trialID)
    guard acknowledgement.state != .duplicate else { return acknowledgement }
    self.metrics.observe("ingest_store_seconds", (self.runtime.now() - start).seconds)
    await self.publish(.outcome(self.outcome(of: trial, quarantined: acknowledgement.state == .quarantined)))
    return acknowledgement
  }

  private func outcome(of trial: TrialRecord, quarantined: Bool) -> StoredOutcome {
    let header = trial.header ?? TrialHeader()
    let end = trial.end ?? TrialEnd()
    let steps = trial.steps
    return StoredOutcome(
      robot: trial.robot, facility: header.facility, trialID: trial.trialID, task: header.task,
      mode: header.mode, modelVersion: header.modelVersion, releaseID: header.releaseID, outcome: end.outcome,
      failureCode: end.failureCode, quarantined: quarantined, seed: header.seed, steps: UInt32(steps.count),
      fallbackSteps: UInt32(steps.count(where: \.fallback)), storedUnixNanos: self.runtime.unixNanos(),
      orderID: header.orderID)
  }

  private func tell(_ acknowledgement: TrialAcknowledgement) async {
    if acknowledgement.state == .refused { self.count("refused", metric: "ingest_trials_refused_total") }
    // A name that is no name has no topic, and nobody who listens to it.
    guard Names.isValid(acknowledgement.robot) else { return }
    await self.publish(.acknowledgement(acknowledgement))
  }

  private func count(_ counter: String, metric: String) {
    self.metrics.increment(metric)
    self.store.count(counter)
  }
}

extension Duration {
  var seconds: Double { Double(self.components.seconds) + Double(self.components.attoseconds) * 1e-18 }
}
