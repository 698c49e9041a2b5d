internal import Policy
internal import Schemas

extension StartTrainingRequest {
  /// - Parameter peers: asked for the models that are registered.
  /// - Throws: ``TrainingError``, ``Policy/PolicyError`` for a request that cannot be done.
  func validate(asking peers: Peers) async throws {
    guard Names.isValid(self.version) else {
      throw TrainingError(
        .invalidRequest,
        "'\(self.version.prefix(64))' is no version: \(Names.rule)."
      )
    }
    guard [.pretrain, .update, .finetune].contains(self.kind) else {
      throw TrainingError(.invalidRequest, "The kind of training must be PRETRAIN, UPDATE or FINETUNE.")
    }
    guard (self.kind == .pretrain) == self.parent.isEmpty else {
      throw TrainingError(
        .invalidRequest,
        self.parent.isEmpty
          ? "UPDATE and FINETUNE need the version of a parent."
          : "PRETRAIN starts from nothing; leave parent empty.")
    }
    let network = try NetworkConfiguration(self.policy ?? .init())
    _ = try TrainingOptions(self.configuration ?? .init(), imageSize: network.imageSize)
    let known: [String]
    do {
      known = try await peers.models().map(\.version)
    } catch {
      throw TrainingError(.unavailable, "The model registry (rollout) does not answer.", cause: error)
    }
    guard !known.contains(self.version) else {
      throw TrainingError(
        .alreadyExists, "Model \(self.version) is registered already; choose another version.")
    }
    guard self.parent.isEmpty || known.contains(self.parent) else {
      throw TrainingError(
        .notFound,
        "There is no model '\(self.parent.prefix(64))' to start from. Registered: \(known.joined(separator: ", "))."
      )
    }
  }
}
