package import Bus
package import Logging
import Schemas
package import ServiceKit
import ServiceLifecycle
package import Storage
package import Trials

/// Ingest on its sockets: trial streams come in, acknowledgements and outcomes go out.
package struct Ingest: Service {
  package let intake: Intake
  private let store: TrialStore
  private let subscriber: Subscriber
  private let publisher: Publisher
  private let runtime: Runtime
  private let metrics: MetricsRegistry

  /// - Parameter vitals: told of a disk that takes no trial.
  package init(
    store: TrialStore, subscriber: Subscriber, publisher: Publisher, runtime: Runtime = .system,
    metrics: MetricsRegistry, vitals: Vitals, logger: Logger, limits: TrialAssembler.Limits = .init()
  ) {
    self.store = store
    self.subscriber = subscriber
    self.publisher = publisher
    self.runtime = runtime
    self.metrics = metrics
    self.intake = Intake(
      store: store, limits: limits, runtime: runtime, metrics: metrics, vitals: vitals, logger: logger
    ) { publication in
      do {
        switch publication {
        case .acknowledgement(let message):
          try await publisher.publish(message, to: .acknowledgements(robot: message.robot))
        case .outcome(let message): try await publisher.publish(message, to: .outcomes(robot: message.robot))
        }
      } catch {
        // The robot asks again when it hears nothing.
        logger.warning("publication failed", error: error)
      }
    }
  }

  /// Takes streams in until it is told to end.
  package func run() async throws {
    do {
      try await self.takeIn()
    } catch {
      await self.store.flushCounters()
      throw error
    }
    await self.store.flushCounters()
    await self.subscriber.close()
    await self.publisher.close()
  }

  private func takeIn() async throws {
    try await cancelWhenGracefulShutdown {
      try await withThrowingDiscardingTaskGroup { group in
        group.addTask { try await self.expire() }
        for await message in self.subscriber.messages {
          if message.missed > 0 {
            self.metrics.increment("ingest_stream_gaps_total", by: Double(message.missed))
          }
          guard let event = self.event(of: message),
            let trial = await self.intake.take(event, bytes: message.payload.count)
          else { continue }
          // The disk syncs while the next events come in; how many wait is bounded by the store.
          group.addTask { await self.intake.settle(trial) }
        }
        group.cancelAll()
      }
    }
  }

  /// The event in a message, where it is one and comes from the robot that its topic names.
  private func event(of message: ReceivedMessage) -> TrialEvent? {
    do {
      let event = try message.decode(TrialEvent.self)
      guard message.topic == .trials(robot: event.robot) else {
        self.metrics.increment("ingest_events_refused_total", labels: ["reason": "topic"])
        return nil
      }
      return event
    } catch {
      self.metrics.increment("ingest_events_refused_total", labels: ["reason": "malformed"])
      return nil
    }
  }

  private func expire() async throws {
    while true {
      try await self.runtime.sleep(for: .seconds(1))
      await self.intake.expire()
    }
  }
}
