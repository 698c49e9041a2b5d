import Artifacts
import Schemas
import Synchronization

/// The versions in memory. A version that is asked for first is loaded once, however many ask for it.
///
/// A request keeps the model that it got: replacing or forgetting one fails nobody.
package final class ModelCache: Sendable {
  /// Versions that may be on their way into memory at once.
  static let concurrentLoads = 4
  /// How long a failed load is answered from memory: a robot asks many times a second.
  static let failureMemory: Duration = .seconds(2)
  static let rememberedFailures = 64

  private typealias Waiter = CheckedContinuation<ServedModel, any Error>

  private struct State {
    var loaded: [String: (model: ServedModel, used: UInt64)] = [:]
    /// Counts uses; the least used model is the first to go.
    var clock: UInt64 = 0
    /// Who waits for each version that is being loaded.
    var loading: [String: [UInt64: Waiter]] = [:]
    var nextWaiter: UInt64 = 0
    var failures: [String: (error: InferenceError, until: ContinuousClock.Instant)] = [:]
  }

  private enum Step {
    case done(Result<ServedModel, InferenceError>)
    case wait(startsLoading: Bool)
  }

  private let state = Mutex(State())
  private let disk: ModelDisk
  private let capacity: Int

  /// - Parameter capacity: versions in memory, at least 1.
  package init(disk: ModelDisk, capacity: Int) {
    self.disk = disk
    self.capacity = max(1, capacity)
  }

  /// Models in memory, newest first.
  var models: [ServedModel] {
    self.state.withLock { $0.loaded.values.map(\.model) }
      .sorted { ($0.manifest.serial, $0.version) > ($1.manifest.serial, $1.version) }
  }

  /// A model, from memory or loaded now.
  /// - Parameters:
  ///   - version: empty for the newest in memory, or the registry's newest where there is none.
  ///   - deadline: when the caller stops waiting; the load goes on.
  /// - Throws: ``InferenceError`` `.expired` at the deadline, or why it cannot be loaded.
  func model(_ version: String, before deadline: ContinuousClock.Instant?) async throws -> ServedModel {
    if let model = self.inMemory(version) { return model }
    let id = self.state.withLock { state in
      defer { state.nextWaiter += 1 }
      return state.nextWaiter
    }
    guard let deadline else { return try await self.wait(version, id) }
    return try await withThrowingTaskGroup(of: ServedModel?.self) { group in
      defer { group.cancelAll() }
      group.addTask { try await self.wait(version, id) }
      group.addTask {
        try await Task.sleep(until: deadline)
        return nil
      }
      guard let model = try await group.next() ?? nil else {
        throw InferenceError(.expired, "Model '\(version)' is still being loaded; ask again.")
      }
      return model
    }
  }

  private func wait(_ version: String, _ id: UInt64) async throws -> ServedModel {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { waiter in
        switch self.enter(version, id, waiter) {
        case .done(let result): waiter.resume(with: result)
        case .wait(let startsLoading): if startsLoading { Task { await self.load(version) } }
        }
      }
    } onCancel: {
      self.giveUp(version, id)
    }
  }

  private func inMemory(_ version: String) -> ServedModel? {
    let now = ModelTrust.now()
    return self.state.withLock { state in
      let entry =
        version.isEmpty
        ? state.loaded.values.filter { !$0.model.hasExpired(now: now) }
          .max { $0.model.manifest.serial < $1.model.manifest.serial } : state.loaded[version]
      guard let model = entry?.model else { return nil }
      guard !model.hasExpired(now: now) else {
        // The disk's trust says why when it is asked for again.
        state.loaded[version] = nil
        return nil
      }
      state.clock += 1
      state.loaded[model.version] = (model, state.clock)
      return model
    }
  }

  private func enter(_ version: String, _ id: UInt64, _ waiter: Waiter) -> Step {
    self.state.withLock { state in
      if let entry = state.loaded[version] { return .done(.success(entry.model)) }
      if Task.isCancelled { return .done(.failure(InferenceError(CancellationError()))) }
      if let failure = state.failures[version], failure.until > .now { return .done(.failure(failure.error)) }
      if state.loading[version] != nil {
        state.loading[version]?[id] = waiter
        return .wait(startsLoading: false)
      }
      guard state.loading.count < Self.concurrentLoads else {
        let error = InferenceError(
          .busy, "\(state.loading.count) models are being loaded already; ask again.")
        return .done(.failure(error))
      }
      state.loading[version] = [id: waiter]
      return .wait(startsLoading: true)
    }
  }

  private func load(_ version: String) async {
    let result: Result<ServedModel, InferenceError>
    do {
      result = .success(try await self.disk.load(version))
    } catch {
      result = .failure(InferenceError(error))
    }
    let waiters = self.state.withLock { state in
      switch result {
      case .success(let model):
        state.clock += 1
        state.loaded[model.version] = (model, state.clock)
        state.failures[version] = nil
        while state.loaded.count > self.capacity,
          let oldest = state.loaded.min(by: { $0.value.used < $1.value.used })?.key
        {
          state.loaded[oldest] = nil
        }
      case .failure(let error):
        state.failures = state.failures.filter { $0.value.until > .now }
        if state.failures.count < Self.rememberedFailures {
          state.failures[version] = (error, .now + Self.failureMemory)
        }
      }
      return state.loading.removeValue(forKey: version) ?? [:]
    }
    for waiter in waiters.values { waiter.resume(with: result) }
  }

  private func giveUp(_ version: String, _ id: UInt64) {
    self.state.withLock { $0.loading[version]?.removeValue(forKey: id) }?.resume(
      throwing: CancellationError())
  }
}
