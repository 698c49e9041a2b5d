package import Schemas

/// Telemetry on its way to the monitor. When nobody takes it away, the oldest goes: the durable truth is elsewhere.
package final class TelemetryOutbox: Sendable {
  package static let bound = 256

  package let events: AsyncStream<TelemetryEvent>
  private let continuation: AsyncStream<TelemetryEvent>.Continuation

  package init() {
    (self.events, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(Self.bound))
  }

  package func send(_ event: TelemetryEvent.Event) {
    self.continuation.yield(TelemetryEvent(event: event))
  }
}
