import Artifacts
import Foundation
import GRPCCore
import Schemas
import Synchronization
import TestSupport

/// An ingest that holds the trials that a test gives it.
final class FakeIngest: IngestService.SimpleServiceProtocol {
  let trials: [[TrialEvent]]
  let queries = Mutex<[TrialQuery]>([])
  let reads = Mutex(0)
  /// What readings that come next meet, before one is served.
  let refusals = Mutex<ArraySlice<RPCError.Code>>([])
  /// What its snapshots' names begin with; it knows none that begin otherwise.
  let prefix = Mutex("tasks:")
  /// How many trials its snapshots are said to have; nil for those that there are.
  let snapshotTrials = Mutex<UInt64?>(nil)

  init(_ trials: [[TrialEvent]]) { self.trials = trials }

  func createSnapshot(request: CreateSnapshotRequest, context: ServerContext) async throws -> DatasetSnapshot
  {
    self.queries.withLock { $0.append(request.query ?? .init()) }
    let tasks = request.query?.tasks ?? []
    let prefix = self.prefix.withLock { $0 }
    return DatasetSnapshot(
      snapshotID: prefix + tasks.joined(separator: ","),
      trials: self.snapshotTrials.withLock { $0 } ?? UInt64(self.trials.count))
  }

  func readTrials(
    request: ReadTrialsRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws {
    self.reads.withLock { $0 += 1 }
    if let code = self.refusals.withLock({ $0.popFirst() }) { throw RPCError(code: code, message: "not now") }
    let prefix = self.prefix.withLock { $0 }
    guard request.snapshotID.hasPrefix(prefix) else {
      throw RPCError(code: .notFound, message: "No snapshot is called '\(request.snapshotID)'.")
    }
    let tasks = Set(request.snapshotID.dropFirst(prefix.count).split(separator: ",").map(String.init))
    for trial in self.trials {
      // A trial that is lost stands for itself.
      if let event = trial.first, !event.missing.isEmpty {
        try await response.write(event)
        continue
      }
      guard case .header(let header) = trial.first?.event, tasks.isEmpty || tasks.contains(header.task) else {
        continue
      }
      for event in trial { try await response.write(event) }
    }
  }

  private var unused: RPCError { RPCError(code: .unimplemented, message: "Training does not call this.") }

  func upload(
    request: RPCAsyncSequence<TrialEvent, any Error>, context: ServerContext
  ) async throws -> TrialAcknowledgement { throw self.unused }
  func listTrials(request: ListTrialsRequest, context: ServerContext) async throws -> ListTrialsResponse {
    throw self.unused
  }
  func getTrial(
    request: GetTrialRequest, response: RPCWriter<TrialEvent>, context: ServerContext
  ) async throws { throw self.unused }
  func summarizeOutcomes(
    request: SummarizeOutcomesRequest, context: ServerContext
  ) async throws -> SummarizeOutcomesResponse { throw self.unused }
  func getStatistics(
    request: GetIngestStatisticsRequest, context: ServerContext
  ) async throws -> IngestStatistics { throw self.unused }
}

/// A registry on a folder.
final class FakeRegistry: ModelRegistryService.SimpleServiceProtocol {
  let store: ArtifactStore
  let trust: ModelTrust
  private let order = Mutex<[String]>([])
  /// `lost`: the model is taken, and its sender does not hear it.
  enum Refusal: Sendable, Equatable { case code(RPCError.Code), silence, lost }
  /// What models that come next meet, before one is taken.
  let refusals = Mutex<ArraySlice<Refusal>>([])
  /// Models that came, taken or not.
  let attempts = Mutex(0)
  /// Happens before the last piece of a model that is fetched.
  let beforeLastPiece = Mutex<(@Sendable () async throws -> Void)?>(nil)

  init(folder: String, trust: ModelTrust) throws {
    self.store = try ArtifactStore(folder: folder)
    self.trust = trust
  }

  func registerModel(
    request: RPCAsyncSequence<ModelChunk, any Error>, context: ServerContext
  ) async throws -> RegisterModelResponse {
    self.attempts.withLock { $0 += 1 }
    let refusal = self.refusals.withLock { $0.popFirst() }
    switch refusal {
    case .code(let code): throw RPCError(code: code, message: "not now")
    case .silence: try await Task.sleep(for: .seconds(3_600))
    case .lost, nil: break
    }
    var receiver = ArtifactReceiver(into: self.store, trust: self.trust)
    for try await chunk in request { try receiver.receive(chunk) }
    let version = try self.trust.verify(try receiver.finish()).version
    self.order.withLock { if !$0.contains(version) { $0.append(version) } }
    if refusal == .lost { throw RPCError(code: .unavailable, message: "the line is gone") }
    return RegisterModelResponse(version: version)
  }

  func getModel(
    request: GetModelRequest, response: RPCWriter<ModelChunk>, context: ServerContext
  ) async throws {
    let sender = try ArtifactSender(request.version, from: self.store, skipping: request.haveSha256)
    let chunks = try sender.map { try $0.get() }
    for chunk in chunks.dropLast() { try await response.write(chunk) }
    try await self.beforeLastPiece.withLock { $0 }?()
    for chunk in chunks.suffix(1) { try await response.write(chunk) }
  }

  func listModels(request: ListModelsRequest, context: ServerContext) async throws -> ListModelsResponse {
    let versions = self.order.withLock { $0 }
    return ListModelsResponse(
      models: try versions.map { try self.trust.verify(try self.store.manifest(of: $0)) })
  }
}

/// Trials of 16 x 16 images whose actions depend on what is seen.
enum Synthetic {
  static func trial(
    _ id: Int, task: String, steps: Int = 12, mode: ControlMode = .demonstration, outcome: Outcome = .success,
    change: (inout TrialStep) -> Void = { _ in }
  ) -> [TrialEvent] {
    let header = TrialHeader(
      trialID: "t\(id)", robot: "r1", task: task, mode: mode, imageHeight: 16, imageWidth: 16)
    let all = (0..<steps).map { index in
      let phase = Float((index * 7 + id * 3) % 20) / 20
      var step = TrialStep(
        index: UInt32(index), jointAngles: (0..<7).map { phase + 0.1 * Float($0) },
        action: [phase, -phase, 0.5, phase > 0.5 ? 1 : -1],
        image: [UInt8](repeating: UInt8(phase * 255), count: 16 * 16 * 3))
      change(&step)
      return step
    }
    let events: [TrialEvent.Event] = [
      .header(header), .steps(TrialSteps(steps: all)),
      .end(TrialEnd(outcome: outcome, steps: UInt32(steps))),
    ]
    return events.enumerated().map { number, event in
      TrialEvent(robot: "r1", trialID: "t\(id)", number: UInt32(number), event: event)
    }
  }

  static func trials(_ tasks: [String], each: Int) -> [[TrialEvent]] {
    tasks.enumerated().flatMap { position, task in
      (0..<each).map { self.trial(position * 100 + $0, task: task) }
    }
  }

  static let policy = PolicyConfiguration(
    imageSize: 16, visionFeatures: 32, jointFeatures: 16, fusionFeatures: 32, taskFeatures: 8, channels: [8],
    strides: [4], kernels: [5])
}
