import Bus
import Logging
import Schemas
import ServiceKit
import ServiceLifecycle

/// Hears robots' telemetry and ingest's outcomes as they come.
struct MonitorListener: Service {
  let monitor: Monitor
  let telemetry: Subscriber
  let outcomes: Subscriber
  let metrics: MetricsRegistry
  let logger: Logger

  func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask {
          for await message in self.telemetry.messages { await self.hear(telemetry: message) }
        }
        group.addTask {
          for await message in self.outcomes.messages { await self.hear(outcome: message) }
        }
      }
    }
    await self.telemetry.close()
    await self.outcomes.close()
  }

  /// Bytes of a telemetry message at most: what a robot says of itself is some hundred.
  private static let maximumBytes = 16 << 10

  private func hear(telemetry message: ReceivedMessage) async {
    guard message.payload.count <= Self.maximumBytes else {
      self.refuse("size")
      return
    }
    await self.take(message) {
      let event = try message.decode(TelemetryEvent.self)
      let robot: String? =
        switch event.event {
        case .heartbeat(let heartbeat): heartbeat.robot
        case .safety(let safety): safety.robot
        case .trial(let trial): trial.robot
        case nil: nil
        }
      // A robot speaks for itself only.
      guard let robot, message.topic == .telemetry(robot: robot) else {
        self.refuse("topic")
        return
      }
      try await self.monitor.hear(event)
    }
  }

  private func hear(outcome message: ReceivedMessage) async {
    await self.take(message) { try await self.monitor.hear(try message.decode(StoredOutcome.self)) }
  }

  private func take(_ message: ReceivedMessage, _ body: () async throws -> Void) async {
    do {
      try await body()
    } catch is BusError {
      self.refuse("malformed")
    } catch {
      self.logger.error("message not taken", metadata: ["topic": "\(message.topic)", "error": "\(error)"])
    }
  }

  private func refuse(_ reason: String) {
    self.metrics.increment(
      "monitor_messages_refused_total", labels: ["reason": reason], help: "Messages that were turned away.")
  }
}
