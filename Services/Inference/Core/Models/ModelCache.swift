import Artifacts
import Schemas
import Synchronization

/// The models in memory. One that is asked for first is loaded once, however many ask for it.
///
/// A request keeps the model that it got: replacing or forgetting one fails nobody.
package final class ModelCache: Sendable {
  /// Models that may be on their way into memory at once.
  static let concurrentLoads = 4
  /// How long a failed load is answered from memory: a robot asks many times a second.
  static let failureMemory: Duration = .seconds(2)
  static let rememberedFailures = 64

  private typealias Waiter = CheckedContinuation<ServedModel, any Error>

  private struct State {
    var loaded: [(model: ServedModel, used: UInt64)] = []
    /// Counts uses; the least used model is the first to go.
    var clock: UInt64 = 0
    /// Who waits for each model that is being loaded.
    var loading: [ModelName: [UInt64: Waiter]] = [:]
    var nextWaiter: UInt64 = 0
    var failures: [ModelName: (error: InferenceError, until: ContinuousClock.Instant)] = [:]
    /// Models that must not act, newest last, and why.
    var refused: [(name: ModelName, reason: String)] = []

    /// The newest in memory of those that are meant.
    mutating func use(_ name: ModelName, now: Int64) -> ServedModel? {
      // The disk's trust says why when one whose time is over is asked for again.
      self.loaded.removeAll { $0.model.hasExpired(now: now) }
      let meant = self.loaded.indices.filter { name.means(self.loaded[$0].model) }
      guard let index = meant.max(by: { self.serial($0) < self.serial($1) }) else { return nil }
      self.clock += 1
      self.loaded[index].used = self.clock
      return self.loaded[index].model
    }

    private func serial(_ index: Int) -> UInt64 { self.loaded[index].model.manifest.serial }
  }

  private enum Step {
    case done(Result<ServedModel, InferenceError>)
    case wait(startsLoading: Bool)
  }

  private let state = Mutex(State())
  let disk: ModelDisk
  private let capacity: Int

  /// - Parameter capacity: versions in memory, at least 1.
  package init(disk: ModelDisk, capacity: Int) {
    self.disk = disk
    self.capacity = max(1, capacity)
  }

  /// Models in memory, newest first.
  var models: [ServedModel] {
    self.state.withLock { $0.loaded.map(\.model) }
      .sorted { ($0.manifest.serial, $0.version) > ($1.manifest.serial, $1.version) }
  }

  /// Models that were asked for and must not act, newest last.
  var refused: [RefusedModel] {
    self.state.withLock { $0.refused }
      .map { RefusedModel(version: $0.name.version, manifestSha256: $0.name.sha256, reason: $0.reason) }
  }

  /// A model, from memory or loaded now. Where no version is named: the newest in memory, or the registry's where there is
  /// none.
  /// - Parameter deadline: when the caller stops waiting; the load goes on.
  /// - Throws: ``InferenceError`` `.expired` at the deadline, or why it cannot be loaded.
  func model(_ name: ModelName, before deadline: ContinuousClock.Instant?) async throws -> ServedModel {
    let now = ModelTrust.now()
    if let model = self.state.withLock({ $0.use(name, now: now) }) { return model }
    let id = self.state.withLock { state in
      defer { state.nextWaiter += 1 }
      return state.nextWaiter
    }
    guard let deadline else { return try await self.wait(name, id) }
    return try await withThrowingTaskGroup(of: ServedModel?.self) { group in
      defer { group.cancelAll() }
      group.addTask { try await self.wait(name, id) }
      group.addTask {
        try await Task.sleep(until: deadline)
        return nil
      }
      guard let model = try await group.next() ?? nil else {
        throw InferenceError(.expired, "Model '\(name.version)' is still being loaded; ask again.")
      }
      return model
    }
  }

  private func wait(_ name: ModelName, _ id: UInt64) async throws -> ServedModel {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { waiter in
        switch self.enter(name, id, waiter) {
        case .done(let result): waiter.resume(with: result)
        case .wait(let startsLoading): if startsLoading { Task { await self.load(name) } }
        }
      }
    } onCancel: {
      self.giveUp(name, id)
    }
  }

  private func enter(_ name: ModelName, _ id: UInt64, _ waiter: Waiter) -> Step {
    let now = ModelTrust.now()
    return self.state.withLock { state in
      if let model = state.use(name, now: now) { return .done(.success(model)) }
      if Task.isCancelled { return .done(.failure(InferenceError(CancellationError()))) }
      if let failure = state.failures[name], failure.until > .now { return .done(.failure(failure.error)) }
      if state.loading[name] != nil {
        state.loading[name]?[id] = waiter
        return .wait(startsLoading: false)
      }
      guard state.loading.count < Self.concurrentLoads else {
        let error = InferenceError(
          .busy, "\(state.loading.count) models are being loaded already; ask again.")
        return .done(.failure(error))
      }
      state.loading[name] = [id: waiter]
      return .wait(startsLoading: true)
    }
  }

  private func load(_ name: ModelName) async {
    let result: Result<ServedModel, InferenceError>
    do {
      result = .success(try await self.disk.load(name))
    } catch {
      result = .failure(InferenceError(error))
    }
    let waiters = self.state.withLock { state in
      switch result {
      case .success(let model): self.take(model, in: &state)
      case .failure(let error): Self.note(error, of: name, in: &state)
      }
      return state.loading.removeValue(forKey: name) ?? [:]
    }
    for waiter in waiters.values { waiter.resume(with: result) }
  }

  private func take(_ model: ServedModel, in state: inout State) {
    state.clock += 1
    state.loaded.removeAll { $0.model.sha256 == model.sha256 }
    state.loaded.append((model, state.clock))
    state.failures = state.failures.filter { !$0.key.means(model) }
    state.refused.removeAll { $0.name.means(model) }
    while state.loaded.count > self.capacity,
      let oldest = state.loaded.indices.min(by: { state.loaded[$0].used < state.loaded[$1].used })
    {
      state.loaded.remove(at: oldest)
    }
  }

  private static func note(_ error: InferenceError, of name: ModelName, in state: inout State) {
    state.failures = state.failures.filter { $0.value.until > .now }
    if state.failures.count < Self.rememberedFailures {
      state.failures[name] = (error, .now + Self.failureMemory)
    }
    guard error.code == .refused else { return }
    state.refused.removeAll { $0.name == name }
    state.refused = state.refused.suffix(Self.rememberedFailures - 1) + [(name, error.message)]
  }

  private func giveUp(_ name: ModelName, _ id: UInt64) {
    self.state.withLock { $0.loading[name]?.removeValue(forKey: id) }?.resume(throwing: CancellationError())
  }
}
