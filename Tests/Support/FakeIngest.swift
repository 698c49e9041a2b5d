import Foundation
public import GRPCCore
public import Schemas
import Synchronization

/// Ingest's questions about outcomes, answered from memory.
public final class FakeIngest: IngestService.SimpleServiceProtocol {
  private let trials = Mutex<[TrialSummary]>([])
  private let damages = Mutex<[LogDamage]>([])

  public init() {}

  /// Stores trials as ingest would.
  @discardableResult
  public func store(
    robot: String, task: String = "reach", version: String, release: String = "", order: String = "",
    outcomes: [Outcome]
  ) -> [TrialSummary] {
    self.trials.withLock { trials in
      let new = outcomes.enumerated().map { index, outcome in
        TrialSummary(
          header: TrialHeader(
            trialID: "trial-\(trials.count + index)", robot: robot, task: task, mode: .policy,
            modelVersion: version, releaseID: release, orderID: order),
          end: TrialEnd(outcome: outcome),
          storedUnixNanos: Int64(Date.now.timeIntervalSince1970 * 1e9) + Int64(index))
      }
      trials += new
      return new
    }
  }

  private static func matches(_ trial: TrialSummary, _ query: TrialQuery) -> Bool {
    guard let header = trial.header else { return false }
    return (query.robots.isEmpty || query.robots.contains(header.robot))
      && (query.modelVersions.isEmpty || query.modelVersions.contains(header.modelVersion))
      && (query.releaseIDs.isEmpty || query.releaseIDs.contains(header.releaseID))
      && (query.orderIDs.isEmpty || query.orderIDs.contains(header.orderID))
      && (query.modes.isEmpty || query.modes.contains(header.mode))
  }

  public func summarizeOutcomes(
    request: SummarizeOutcomesRequest, context: ServerContext
  ) async throws -> SummarizeOutcomesResponse {
    let trials = self.trials.withLock { $0 }.filter { Self.matches($0, request.query ?? .init()) }
    let cells = Dictionary(grouping: trials) { trial in
      var header = trial.header ?? TrialHeader()
      header.trialID = ""
      return header
    }
    return SummarizeOutcomesResponse(
      counts: cells.map { header, trials in
        let ended = trials.filter { [.success, .failure].contains($0.end?.outcome) }
        return OutcomeCount(
          task: header.task, modelVersion: header.modelVersion, robot: header.robot, mode: header.mode,
          successes: UInt64(ended.count { $0.end?.outcome == .success }), trials: UInt64(ended.count),
          aborted: UInt64(trials.count - ended.count), releaseID: header.releaseID)
      })
  }

  public func listTrials(request: ListTrialsRequest, context: ServerContext) async throws
    -> ListTrialsResponse
  {
    let trials = self.trials.withLock { $0 }.filter { Self.matches($0, request.query ?? .init()) }
    let ordered = request.newestFirst ? trials.reversed() : trials
    let rest = ordered.dropFirst(Int(request.pageToken) ?? 0)
    let page = rest.prefix(request.pageSize == 0 ? 100 : Int(request.pageSize))
    return ListTrialsResponse(
      trials: Array(page), nextPageToken: page.count < rest.count ? "\(page.endIndex)" : "")
  }

  /// What is damaged from now on.
  public func damage(_ damages: [LogDamage]) { self.damages.withLock { $0 = damages } }

  public func getStatistics(
    request: GetIngestStatisticsRequest, context: ServerContext
  ) async throws -> IngestStatistics { IngestStatistics(damages: self.damages.withLock { $0 }) }

  // MARK: What nobody asks here

  private func no() -> RPCError { RPCError(code: .unimplemented, message: "not in this test") }

  public func upload(
    request: RPCAsyncSequence<TrialEvent, any Error>, context: ServerContext
  ) async throws -> TrialAcknowledgement { throw self.no() }

  public func getTrial(
    request: GetTrialRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws { throw self.no() }

  public func createSnapshot(request: CreateSnapshotRequest, context: ServerContext) async throws
    -> DatasetSnapshot
  {
    throw self.no()
  }

  public func readTrials(
    request: ReadTrialsRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws { throw self.no() }
}
