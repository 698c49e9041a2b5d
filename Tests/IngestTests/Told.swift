import Logging
import Schemas
import ServiceKit
import Synchronization
import Trials

@testable import IngestCore

/// What an intake published.
final class Told: Sendable {
  private let all = Mutex<[Intake.Publication]>([])

  var states: [TrialState] {
    self.all.withLock { $0 }.compactMap {
      if case .acknowledgement(let told) = $0 { told.state } else { nil }
    }
  }
  var outcomes: Int { self.all.withLock { $0 }.count { if case .outcome = $0 { true } else { false } } }

  /// An intake that tells this one.
  func intake(_ store: TrialStore, _ limits: TrialAssembler.Limits = .init()) -> Intake {
    Intake(
      store: store, limits: limits, metrics: MetricsRegistry(), vitals: Vitals(),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    ) { publication in self.all.withLock { $0.append(publication) } }
  }
}
