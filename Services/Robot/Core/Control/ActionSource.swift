package import Schemas

/// A policy that acts in this process, without any network.
package protocol LocalPolicy: Sendable {
  var version: String { get }
  /// Actions for one observation, chunk x 4. Blocks no thread of the Swift pool.
  func act(_ observation: Observation) async throws -> [Float]
}

/// A policy behind a network.
package protocol RemotePolicy: Sendable {
  /// Nil where no good answer came within the budget.
  /// - Parameter sha256: of the manifest of the version that is to act; empty for any.
  func act(
    _ observation: Observation, version: String, sha256: [UInt8], budget: Duration
  ) async -> ActResponse?
}

/// Chooses the actions of one trial: inference first, the local policy where it does not answer in time, and a hold action
/// where there is no model at all. A trial keeps the model that it began with.
package struct ActionSource {
  package struct Choice: Sendable {
    package var action: [Float]
    package var modelVersion: String
    /// Inference was to act and did not.
    package var fallback: Bool
  }

  private let remote: (any RemotePolicy)?
  private let local: ModelKeeper.Installed?
  private let budget: Duration
  private let executedOfChunk: Int
  /// Actions of the last chunk that are still to be executed, next one last.
  private var queued: [Choice] = []

  /// - Parameters:
  ///   - budget: time that inference has for an answer.
  ///   - executedOfChunk: actions executed of each predicted chunk before the policy is asked again, at least 1.
  package init(
    remote: (any RemotePolicy)?, local: ModelKeeper.Installed?, budget: Duration, executedOfChunk: Int = 1
  ) {
    self.remote = remote
    self.local = local
    self.budget = budget
    self.executedOfChunk = max(1, executedOfChunk)
  }

  /// Version that this trial acts with; empty without a model.
  package var modelVersion: String { self.local?.policy.version ?? "" }

  /// The next action.
  /// - Parameter previous: what was executed last; its gripper is kept by a hold action.
  package mutating func choose(for observation: Observation, previous: [Float]) async -> Choice {
    if let next = self.queued.popLast() { return next }
    // Without a model of its own the robot knows no version that it could ask for or vouch for.
    guard let local = self.local?.policy else {
      return Choice(action: ActionLimits.hold(previous), modelVersion: "", fallback: true)
    }
    let sha256 = self.local?.sha256 ?? []
    if let answer = await self.remote?.act(
      observation, version: local.version, sha256: sha256, budget: self.budget)
    {
      return self.take(answer.actions, version: answer.modelVersion, fallback: false)
        ?? Choice(action: ActionLimits.hold(previous), modelVersion: answer.modelVersion, fallback: true)
    }
    // A robot without inference acts with its own model as a matter of course.
    let fallback = self.remote != nil
    if let actions = try? await local.act(observation),
      let choice = self.take(actions, version: local.version, fallback: fallback)
    {
      return choice
    }
    return Choice(action: ActionLimits.hold(previous), modelVersion: local.version, fallback: true)
  }

  /// Splits a chunk into single actions; nil where it is no whole number of them.
  private mutating func take(_ actions: [Float], version: String, fallback: Bool) -> Choice? {
    let size = ActionLimits.dimensions
    guard !actions.isEmpty, actions.count.isMultiple(of: size) else { return nil }
    let choices = stride(from: 0, to: actions.count, by: size).prefix(self.executedOfChunk).map {
      Choice(action: Array(actions[$0..<$0 + size]), modelVersion: version, fallback: fallback)
    }
    self.queued = choices.dropFirst().reversed()
    return choices[0]
  }
}
