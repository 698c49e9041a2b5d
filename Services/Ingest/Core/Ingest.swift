package import Bus
import Foundation
package import Logging
package import Schemas
package import ServiceKit
import ServiceLifecycle
package import Trials

/// The heart of ingest: trials from streams and uploads into the store, acknowledgements and outcomes out.
package actor Ingest: Service {
  private let store: TrialStore
  private let subscriber: Subscriber
  private let publisher: Publisher
  private let metrics: MetricsRegistry
  private let logger: Logger
  private var assembler: TrialAssembler

  package init(
    store: TrialStore, subscriber: Subscriber, publisher: Publisher, metrics: MetricsRegistry, logger: Logger,
    limits: TrialAssembler.Limits = .init()
  ) {
    self.store = store
    self.subscriber = subscriber
    self.publisher = publisher
    self.metrics = metrics
    self.logger = logger
    self.assembler = TrialAssembler(limits: limits)
  }

  /// Takes streams in until it is told to end.
  package func run() async throws {
    try await cancelWhenGracefulShutdown {
      try await withThrowingDiscardingTaskGroup { group in
        group.addTask { try await self.expire() }
        for await message in self.subscriber.messages {
          if message.missed > 0 {
            self.metrics.increment("ingest_stream_gaps_total", by: Double(message.missed))
          }
          guard let event = await self.event(of: message) else { continue }
          switch await self.assemble(event, bytes: message.payload.count) {
          case .wait: continue
          case .tell(let acknowledgement): await self.tell(acknowledgement)
          // The disk syncs while the next events come in; how many wait is bounded by the store.
          case .complete(let trial): group.addTask { await self.tell(await self.file(trial)) }
          }
        }
        group.cancelAll()
      }
    }
    await self.subscriber.close()
    await self.publisher.close()
  }

  /// The event in a message, where it is one and comes from the robot that its topic names.
  private func event(of message: ReceivedMessage) async -> TrialEvent? {
    do {
      let event = try message.decode(TrialEvent.self)
      guard message.topic.description == "trials/\(event.robot)" else {
        self.metrics.increment("ingest_events_refused_total", labels: ["reason": "topic"])
        return nil
      }
      return event
    } catch {
      self.metrics.increment("ingest_events_refused_total", labels: ["reason": "malformed"])
      return nil
    }
  }

  private func assemble(_ event: TrialEvent, bytes: Int) -> TrialAssembler.Step {
    self.metrics.increment("ingest_events_total")
    return self.assembler.add(event, bytes: bytes, nowNanos: UnixTime.now)
  }

  private func expire() async throws {
    while true {
      try await Task.sleep(for: .seconds(1))
      for acknowledgement in self.assembler.expire(nowNanos: UnixTime.now) {
        await self.tell(acknowledgement)
      }
      self.metrics.set("ingest_open_trials", to: Double(self.assembler.openTrials))
    }
  }

  /// Stores a trial and says what became of it. Nothing is acknowledged that is not durable.
  package nonisolated func file(_ trial: TrialRecord) async -> TrialAcknowledgement {
    let start = ContinuousClock.now
    var acknowledgement = TrialAcknowledgement(robot: trial.robot, trialID: trial.trialID)
    do {
      switch try await self.store.store(trial) {
      case .stored:
        acknowledgement.state = .stored
        self.metrics.increment("ingest_trials_stored_total")
      case .duplicate:
        acknowledgement.state = .duplicate
        self.metrics.increment("ingest_trials_redelivered_total")
        try self.store.catalog.increment("redelivered")
        return acknowledgement
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
      self.metrics.observe("ingest_store_seconds", (ContinuousClock.now - start).seconds)
      await self.publish(trial, quarantined: acknowledgement.state == .quarantined)
    } catch {
      self.logger.error("trial not stored", error: error, metadata: ["robot": "\(trial.robot)"])
      self.metrics.increment("ingest_store_failures_total")
      acknowledgement.state = .incomplete
      acknowledgement.reasons = ["\(error)"]
    }
    return acknowledgement
  }

  private nonisolated func publish(_ trial: TrialRecord, quarantined: Bool) async {
    let header = trial.header ?? TrialHeader()
    let end = trial.end ?? TrialEnd()
    let steps = trial.steps
    let outcome = StoredOutcome(
      robot: trial.robot, facility: header.facility, trialID: trial.trialID, task: header.task,
      mode: header.mode,
      modelVersion: header.modelVersion, releaseID: header.releaseID, outcome: end.outcome,
      failureCode: end.failureCode, quarantined: quarantined, seed: header.seed, steps: UInt32(steps.count),
      fallbackSteps: UInt32(steps.count(where: \.fallback)), storedUnixNanos: UnixTime.now,
      orderID: header.orderID)
    await self.publish(outcome, "outcomes/\(trial.robot)")
  }

  package nonisolated func tell(_ acknowledgement: TrialAcknowledgement) async {
    if acknowledgement.state == .refused {
      try? self.store.catalog.increment("refused")
      self.metrics.increment("ingest_trials_refused_total")
    }
    // A name that is no name has no topic, and nobody who listens to it.
    guard TrialAssembler.isName(acknowledgement.robot) else { return }
    await self.publish(acknowledgement, "acks/\(acknowledgement.robot)")
  }

  private nonisolated func publish(_ message: some ProtobufMessage, _ topic: String) async {
    do {
      try await self.publisher.publish(message, to: Topic(topic))
    } catch {
      // The robot asks again when it hears nothing.
      self.logger.warning("publication failed", error: error, metadata: ["bus.topic": "\(topic)"])
    }
  }

  package var incompleteTrials: Int { self.assembler.openTrials }
}

extension Duration {
  var seconds: Double { Double(self.components.seconds) + Double(self.components.attoseconds) * 1e-18 }
}
