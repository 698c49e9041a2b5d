import Bus
import Foundation
import GRPCCore
import Logging
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing
import Trials

@testable import IngestCore
@testable import ServiceKit

/// What ingest says of itself while its disk or its catalog does not work.
@Suite("Ingest's health", .timeLimit(.minutes(5)))
struct VitalsTests {
  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private static func trial(_ id: String) -> TrialRecord {
    let parts: [TrialEvent.Event] = [
      .header(TrialHeader(trialID: id, robot: "robot-1", task: "reach")),
      .steps(TrialSteps(steps: [TrialStep(index: 0, action: [0, 0, 0, 0])])),
      .end(TrialEnd(outcome: .success, steps: 1)),
    ]
    return TrialRecord(
      events: parts.enumerated().map {
        TrialEvent(robot: "robot-1", trialID: id, number: UInt32($0.offset), event: $0.element)
      })
  }

  @Test func `it serves no longer while its disk is full, and again once a trial is stored`() async throws {
    let folder = try TemporaryFolder()
    let context = ServiceContext(
      name: "ingest", configuration: try ServiceConfiguration(service: "ingest", known: []),
      logger: Self.logger, metrics: MetricsRegistry(), vitals: Vitals())
    let disk = FailingDisk()
    let store = try TrialStore(
      folder: folder.path, disk: disk, runtime: .system, catalog: try TrialCatalog(path: nil))
    let told = Mutex<[TrialState]>([])
    let intake = Intake(
      store: store, metrics: context.metrics, vitals: context.vitals, logger: Self.logger
    ) { publication in
      if case .acknowledgement(let message) = publication { told.withLock { $0.append(message.state) } }
    }
    let server = try await RPCServer(
      bind: "ipc://\(folder.path)/i", keys: "", context: context,
      services: [IngestEndpoint(intake: intake, store: store)])
    let serving = Task { try await server.run() }
    defer { serving.cancel() }
    let connection = try RPCClient.connection(
      to: server.endpoint.description, service: "ingest", keys: "")
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await connection.runConnections() }
      defer { connection.beginGracefulShutdown() }
      func status() async throws -> HealthCheckResponse.ServingStatus {
        try await Health.Client(wrapping: connection).check(.init(), options: .within(.seconds(30))).status
      }
      await intake.settle(Self.trial("t-1"))
      #expect(try await status() == .serving)
      disk.fail(after: 0)
      await intake.settle(Self.trial("t-2"))
      #expect(disk.hasFailed)
      #expect(try await status() == .notServing)
      let broken = try await MetricsService.Client(wrapping: connection).getMetrics(
        .init(), options: .within(.seconds(30))
      ).brokenParts
      #expect(broken.map(\.part) == ["trial log"])
      #expect(broken.first?.reason.contains("disk is full") == true)
      // A duplicate needs no room, and says nothing of it.
      await intake.settle(Self.trial("t-1"))
      #expect(try await status() == .notServing)
      // The robot sends it again.
      await intake.settle(Self.trial("t-2"))
      #expect(try await status() == .serving)
    }
    #expect(told.withLock { $0 } == [.quarantined, .incomplete, .duplicate, .quarantined])
  }

  @Test func `where no file of the log can be begun, no trial is refused for it`() async throws {
    let folder = try TemporaryFolder()
    func file(_ number: String) -> String { "\(folder.path)/log/trials-\(number).mcap" }
    func store(on disk: any Disk, _ configuration: TrialStore.Configuration = .init()) throws -> TrialStore {
      try TrialStore(
        folder: folder.path, configuration: configuration, disk: disk, runtime: .system,
        catalog: try TrialCatalog(path: nil))
    }
    _ = try await store(on: SystemDisk()).store(Self.trial("t-0"))
    try FileManager.default.moveItem(atPath: file("00000001"), toPath: file("99999998"))
    let disk = FailingDisk()
    var configuration = TrialStore.Configuration()
    configuration.log.maximumFileBytes = 1
    let vitals = Vitals()
    let told = Mutex<[TrialState]>([])
    let intake = Intake(
      store: try store(on: disk, configuration), metrics: MetricsRegistry(), vitals: vitals,
      logger: Self.logger
    ) { publication in
      if case .acknowledgement(let message) = publication { told.withLock { $0.append(message.state) } }
    }
    // The trial and the end of its file are written; the last file that has a name cannot be made.
    disk.fail(after: 4)
    await intake.settle(Self.trial("t-1"))
    #expect(disk.hasFailed && vitals.broken.isEmpty)
    try Data().write(to: URL(filePath: file("99999999")))
    await intake.settle(Self.trial("t-2"))
    #expect(vitals.broken.map(\.part) == ["trial log"])
    #expect(vitals.broken.first?.reason.contains("last name of a log file") == true)
    try FileManager.default.removeItem(atPath: file("99999999"))
    await intake.settle(Self.trial("t-2"))
    #expect(vitals.broken.isEmpty)
    #expect(told.withLock { $0 } == [.quarantined, .incomplete, .quarantined])
  }

  @Test func `a trial that waits for its turn says nothing of the disk`() async throws {
    let folder = try TemporaryFolder()
    let vitals = Vitals()
    var configuration = TrialStore.Configuration()
    configuration.maximumWaiting = 0
    let store = try TrialStore(
      folder: folder.path, configuration: configuration, disk: SystemDisk(), runtime: .system,
      catalog: try TrialCatalog(path: nil))
    let intake = Intake(store: store, metrics: MetricsRegistry(), vitals: vitals, logger: Self.logger) { _ in
    }
    await intake.settle(Self.trial("t-1"))
    #expect(try await store.catalog.totals().quarantined.isEmpty, "it was refused")
    #expect(vitals.broken.isEmpty)
  }

  @Test func `the catalog is broken while stored trials wait for it`() async throws {
    let folder = try TemporaryFolder()
    let vitals = Vitals()
    let notices = StoreNotices(logger: Self.logger, metrics: MetricsRegistry(), vitals: vitals)
    let full = Mutex(false)
    let store = try TrialStore(
      folder: folder.path, disk: SystemDisk(), runtime: .system,
      catalog: try TrialCatalog(path: nil) {
        if full.withLock({ $0 }) { throw StorageError(.diskFull, "The test's disk is full.") }
      }, tell: notices.tell)
    full.withLock { $0 = true }
    _ = try await store.store(Self.trial("t-1"))
    await store.flushCounters()
    #expect(vitals.broken.map(\.part) == ["catalog"])
    #expect(vitals.broken.first?.reason.contains("The test's disk is full.") == true)
    full.withLock { $0 = false }
    _ = try await store.store(Self.trial("t-2"))
    await store.flushCounters()
    #expect(vitals.broken.isEmpty)
  }

  @Test func `the catalog's content is broken until it is made anew`() {
    let vitals = Vitals()
    let notices = StoreNotices(logger: Self.logger, metrics: MetricsRegistry(), vitals: vitals)
    let error = TrialsError(.catalog, "The test damaged it.")
    notices.tell(.catalogDamaged(error))
    #expect(vitals.broken.map(\.part) == ["catalog-content"])
    #expect(vitals.broken.first?.reason.contains("The test damaged it.") == true)
    notices.tell(.catalogMadeAnew(damaged: "catalog.sqlite.damaged-1", error))
    #expect(vitals.broken.isEmpty)
  }
}
