package import GRPCCore
package import Schemas
import Storage
package import Trials

/// IngestService over the store.
package struct IngestEndpoint: IngestService.SimpleServiceProtocol {
  /// Trials that a page holds where the caller does not say.
  static let defaultPage = 100

  private let intake: Intake
  private let store: TrialStore
  /// Of trials.
  private let reads = OpenReads()
  /// Of the catalog, as many as ``TrialCatalog/maximumAnswers`` at most.
  private let queries = OpenReads()
  private let budget = ReadBudget()

  package init(intake: Intake, store: TrialStore) {
    self.intake = intake
    self.store = store
  }

  package func upload(
    request: RPCAsyncSequence<TrialEvent, any Error>, context: ServerContext
  ) async throws -> TrialAcknowledgement {
    try await self.intake.upload(request) { try Caller.require(robot: $0.robot, context) }
  }

  package func listTrials(request: ListTrialsRequest, context: ServerContext) async throws
    -> ListTrialsResponse
  {
    try await Failure.asStatus {
      let size = request.pageSize == 0 ? Self.defaultPage : Int(request.pageSize)
      let page = try await self.queries.during(context.remotePeer) {
        try await self.store.catalog.trials(
          request.query ?? .init(), limit: size, after: request.pageToken.isEmpty ? nil : request.pageToken,
          newestFirst: request.newestFirst)
      }
      return ListTrialsResponse(trials: page.trials, nextPageToken: page.token ?? "")
    }
  }

  package func getTrial(
    request: GetTrialRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws {
    try await Failure.asStatus {
      let name = TrialName(robot: request.robot, trialID: request.trialID)
      let caller = context.remotePeer
      try await self.reads.during(caller) {
        try await self.budget.during(caller, bytes: try await self.store.logBytes(of: name)) {
          try await response.write(contentsOf: try await self.store.trial(name).events)
        }
      }
    }
  }

  package func createSnapshot(request: CreateSnapshotRequest, context: ServerContext) async throws
    -> DatasetSnapshot
  {
    try await Failure.asStatus {
      try await self.queries.during(context.remotePeer) {
        try await self.store.createSnapshot(request.query ?? .init())
      }
    }
  }

  package func readTrials(
    request: ReadTrialsRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws {
    try await Failure.asStatus {
      let caller = context.remotePeer
      try await self.reads.during(caller) {
        for name in try await self.store.trials(ofSnapshot: request.snapshotID) {
          try Task.checkCancellation()
          try await self.budget.during(caller, bytes: try await self.store.logBytes(of: name)) {
            // The writer waits for credit: a slow reader slows this down and fills no memory.
            for event in try await self.events(of: name, withoutImages: request.withoutImages) {
              try await response.write(event)
            }
          }
        }
      }
    }
  }

  /// A trial's events, or the one that says that the log has lost it.
  private func events(of name: TrialName, withoutImages: Bool) async throws -> [TrialEvent] {
    do {
      let trial = try await self.store.trial(name)
      return withoutImages ? trial.withoutImages.events : trial.events
    } catch let error as TrialsError where error.code == .corrupt || error.code == .notFound {
      return [TrialEvent(robot: name.robot, trialID: name.trialID, missing: error.message)]
    }
  }

  package func summarizeOutcomes(
    request: SummarizeOutcomesRequest, context: ServerContext
  ) async throws -> SummarizeOutcomesResponse {
    try await Failure.asStatus {
      try await self.queries.during(context.remotePeer) {
        SummarizeOutcomesResponse(counts: try await self.store.catalog.outcomes(request.query ?? .init()))
      }
    }
  }

  package func getStatistics(
    request: GetIngestStatisticsRequest, context: ServerContext
  ) async throws -> IngestStatistics {
    try await Failure.asStatus {
      let (totals, usage) = try await self.queries.during(context.remotePeer) {
        (try await self.store.catalog.totals(), try await self.store.usage())
      }
      let damages = await self.store.damages()
      return IngestStatistics(
        stored: UInt64(totals.stored), quarantined: totals.quarantined.mapValues(UInt64.init),
        redelivered: UInt64(self.store.counter("redelivered")),
        duplicates: UInt64(usage.duplicates),
        incomplete: UInt64(await self.intake.incompleteTrials), logBytes: UInt64(usage.bytes),
        logFiles: UInt64(usage.files), freeBytes: usage.free,
        refused: UInt64(self.store.counter("refused")), damages: damages.recent,
        damagesInAll: UInt64(damages.count), uncatalogued: UInt64(await self.store.uncataloguedTrials))
    }
  }
}

/// Errors of the store as gRPC says them.
enum Failure {
  static func asStatus<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
      return try await body()
    } catch let error as TrialsError {
      let code: RPCError.Code =
        switch error.code {
        case .notFound: .notFound
        case .invalid, .refused: .invalidArgument
        case .diskFull, .busy: .resourceExhausted
        case .corrupt, .unreadable: .dataLoss
        case .fileSystem, .catalog, .video: .internalError
        }
      throw RPCError(code: code, message: error.message)
    }
  }
}
