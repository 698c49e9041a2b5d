import Bus
import Foundation
import GRPCCore
import IngestCore
import Logging
import Schemas
import ServiceKit
import TestSupport
import Trials

@testable import RobotCore

/// Ingest itself, over a store in a folder of its own.
final class IngestUnderTest: Sendable {
  let store: TrialStore
  let metrics = MetricsRegistry()
  private let folder: TemporaryFolder

  init() throws {
    self.folder = try TemporaryFolder()
    self.store = try TrialStore(folder: URL(filePath: self.folder.path))
  }

  static var logger: Logger { Logger(label: "ingest") { _ in SwiftLogNoOpLogHandler() } }

  /// Everything that is stored, by trial.
  func trials() async throws -> [String: [TrialEvent]] {
    var trials: [String: [TrialEvent]] = [:]
    let stored = try await self.store.catalog.trials(
      .init(includeQuarantined: true), limit: 1_000, after: nil)
    for header in stored.trials.compactMap(\.header) {
      let name = TrialName(robot: header.robot, trialID: header.trialID)
      trials[header.trialID] = try await self.store.trial(name).events
    }
    return trials
  }

  /// Deliveries of what was stored already.
  var redelivered: Int { self.store.counter("redelivered") }

  /// Serves on the sockets while `body` runs.
  /// - Parameter streams: false where nothing that is published may arrive.
  func serve<Result: Sendable>(
    on sockets: Sockets, streams: Bool = true, _ body: @Sendable @escaping () async throws -> Result
  ) async throws -> Result {
    let ingest = Ingest(
      store: self.store,
      subscriber: try Subscriber(
        .bind(sockets.endpoint(streams ? "ingest.trials" : "nowhere")), topics: [Topic("trials")]),
      publisher: try Publisher(.bind(sockets.endpoint("ingest.publications")), identity: "ingest"),
      metrics: self.metrics, vitals: ServiceKit.Vitals(), logger: Self.logger)
    let server = GRPCServer(
      transport: try ZeroMQServerTransport(bind: sockets.endpoint("ingest.rpc")),
      services: [IngestEndpoint(intake: ingest.intake, store: self.store)])
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      group.addTask { try? await ingest.run() }
      defer {
        server.beginGracefulShutdown()
        group.cancelAll()
      }
      return try await body()
    }
  }
}
