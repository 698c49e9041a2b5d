package import GRPCCore
package import Schemas
package import Trials

/// IngestService over the store.
package struct IngestEndpoint: IngestService.SimpleServiceProtocol {
  /// Trials that a page holds where the caller does not say.
  static let defaultPage = 100

  private let ingest: Ingest
  private let store: TrialStore
  private let limits: TrialAssembler.Limits

  package init(ingest: Ingest, store: TrialStore, limits: TrialAssembler.Limits = .init()) {
    self.ingest = ingest
    self.store = store
    self.limits = limits
  }

  package func upload(
    request: RPCAsyncSequence<TrialEvent, any Error>, context: ServerContext
  ) async throws -> TrialAcknowledgement {
    // An assembler of its own: an upload neither waits for nor disturbs the streams.
    var assembler = TrialAssembler(limits: self.limits)
    var last: TrialAcknowledgement?
    for try await event in request {
      try Caller.require(robot: event.robot, context)
      switch assembler.add(event, bytes: event.serializedSize, nowNanos: UnixTime.now) {
      case .wait: continue
      case .complete(let trial):
        let acknowledgement = await self.ingest.file(trial)
        await self.ingest.tell(acknowledgement)
        return acknowledgement
      case .tell(let acknowledgement):
        if acknowledgement.state == .refused {
          await self.ingest.tell(acknowledgement)
          return acknowledgement
        }
        last = acknowledgement
      }
    }
    if let open = assembler.expire(nowNanos: .max).first { return open }
    guard let last else {
      throw RPCError(code: .invalidArgument, message: "An upload needs at least one event.")
    }
    return last
  }

  package func listTrials(request: ListTrialsRequest, context: ServerContext) async throws
    -> ListTrialsResponse
  {
    try await Failure.asStatus {
      let size = request.pageSize == 0 ? Self.defaultPage : Int(request.pageSize)
      let page = try self.store.catalog.trials(
        request.query ?? .init(), limit: size, after: request.pageToken.isEmpty ? nil : request.pageToken)
      return ListTrialsResponse(trials: page.trials, nextPageToken: page.token ?? "")
    }
  }

  package func getTrial(
    request: GetTrialRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws {
    try await Failure.asStatus {
      guard let position = try self.store.catalog.position(robot: request.robot, trialID: request.trialID)
      else {
        throw TrialsError(.notFound, "Robot '\(request.robot)' has no stored trial '\(request.trialID)'.")
      }
      try await response.write(contentsOf: try await self.store.read(position).events)
    }
  }

  package func createSnapshot(request: CreateSnapshotRequest, context: ServerContext) async throws
    -> DatasetSnapshot
  {
    try await Failure.asStatus {
      try self.store.catalog.createSnapshot(request.query ?? .init(), nowUnixNanos: UnixTime.now)
    }
  }

  package func readTrials(
    request: ReadTrialsRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws {
    try await Failure.asStatus {
      for position in try self.store.catalog.positions(ofSnapshot: request.snapshotID) {
        try Task.checkCancellation()
        var trial = try await self.store.read(position)
        if request.withoutImages { trial = trial.withoutImages }
        // The writer waits for credit: a slow reader slows this down and fills no memory.
        for event in trial.events { try await response.write(event) }
      }
    }
  }

  package func summarizeOutcomes(
    request: SummarizeOutcomesRequest, context: ServerContext
  ) async throws -> SummarizeOutcomesResponse {
    try await Failure.asStatus {
      SummarizeOutcomesResponse(counts: try self.store.catalog.outcomes(request.query ?? .init()))
    }
  }

  package func getStatistics(
    request: GetIngestStatisticsRequest, context: ServerContext
  ) async throws -> IngestStatistics {
    try await Failure.asStatus {
      let totals = try self.store.catalog.totals()
      let usage = try await self.store.usage()
      return IngestStatistics(
        stored: UInt64(totals.stored), quarantined: totals.quarantined.mapValues(UInt64.init),
        redelivered: UInt64(try self.store.catalog.counter("redelivered")),
        duplicates: UInt64(usage.duplicates),
        incomplete: UInt64(await self.ingest.incompleteTrials), logBytes: UInt64(usage.bytes),
        logFiles: UInt64(usage.files), freeBytes: UInt64(usage.free),
        refused: UInt64(try self.store.catalog.counter("refused")))
    }
  }
}

extension TrialRecord {
  /// The same trial without pictures; events keep their numbers.
  var withoutImages: TrialRecord {
    TrialRecord(
      events: self.events.compactMap { event in
        var event = event
        switch event.event {
        case .video: return nil
        case .steps(var run):
          for index in run.steps.indices { run.steps[index].image = [] }
          event.event = .steps(run)
        default: break
        }
        return event
      })
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
        case .invalid: .invalidArgument
        case .diskFull: .resourceExhausted
        case .corrupt: .dataLoss
        case .fileSystem, .video: .internalError
        }
      throw RPCError(code: code, message: error.message)
    }
  }
}
