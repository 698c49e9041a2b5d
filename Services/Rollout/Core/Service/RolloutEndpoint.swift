package import GRPCCore
package import Schemas

/// RolloutService over the state.
package struct RolloutEndpoint: RolloutService.SimpleServiceProtocol {
  private let rollout: Rollout
  private let registry: ModelRegistry
  private let peers: RolloutPeers
  /// Throws unless the caller may speak for the robot.
  private let authorize: @Sendable (_ robot: String, ServerContext) throws -> Void

  package init(
    rollout: Rollout, registry: ModelRegistry, peers: RolloutPeers,
    authorize: @escaping @Sendable (_ robot: String, ServerContext) throws -> Void = { _, _ in }
  ) {
    self.rollout = rollout
    self.registry = registry
    self.peers = peers
    self.authorize = authorize
  }

  /// - Returns: SHA-256 of the version's manifest in hex.
  private func requireModel(_ version: String) async throws -> String {
    guard let hash = try await self.registry.manifestHash(of: version) else {
      let known = try await self.registry.manifests().suffix(20).map(\.version).joined(separator: ", ")
      throw RolloutError(
        .notFound,
        "No model '\(version.prefix(64))' is registered. Registered: \(known.isEmpty ? "none" : known)")
    }
    return hash
  }

  // MARK: Releases

  package func createRelease(request: CreateReleaseRequest, context: ServerContext) async throws -> Release {
    try await Status.of {
      let hash = try await self.requireModel(request.version)
      let id = try await self.rollout.change { state, occasion throws(RolloutError) in
        try state.pin(request.version, to: hash)
        return try state.createRelease(
          version: request.version, robots: request.robots, reason: request.reason,
          guarded: request.guarded, requestID: request.requestID, salt: occasion.salt, now: occasion.now)
      }
      return try await self.release(id)
    }
  }

  private func release(_ id: String) async throws -> Release {
    let state = await self.rollout.snapshot
    guard let release = state.releases[id] else {
      throw RolloutError(.notFound, "There is no release '\(id.prefix(64))'.")
    }
    return state.message(release: release)
  }

  package func getRelease(request: GetReleaseRequest, context: ServerContext) async throws -> Release {
    try await Status.of { try await self.release(request.releaseID) }
  }

  package func listReleases(
    request: ListReleasesRequest, context: ServerContext
  ) async throws -> ListReleasesResponse {
    let state = await self.rollout.snapshot
    return ListReleasesResponse(
      releases: state.releases.values.sorted { $0.number > $1.number }.prefix(1_000)
        .map(state.message(release:)))
  }

  package func rollback(request: RollbackRequest, context: ServerContext) async throws -> Release {
    try await Status.of {
      try await self.rollout.change { state, occasion throws(RolloutError) in
        try state.rollBack(
          request.releaseID, reason: request.reason, alertID: "", evidence: request.reason,
          salt: occasion.salt, now: occasion.now)
      }
      return try await self.release(request.releaseID)
    }
  }

  // MARK: Experiments

  package func startExperiment(
    request: StartExperimentRequest, context: ServerContext
  ) async throws -> Experiment {
    try await Status.of {
      let baseline = try await self.requireModel(request.baseline)
      let candidate = try await self.requireModel(request.candidate)
      let seed = request.seed == 0 ? UInt64.random(in: 1 ... .max) : request.seed
      let id = try await self.rollout.change { state, occasion throws(RolloutError) in
        try state.pin(request.baseline, to: baseline)
        try state.pin(request.candidate, to: candidate)
        return try state.startExperiment(request, seed: seed, salt: occasion.salt, now: occasion.now)
      }
      return try await self.experiment(id)
    }
  }

  private func experiment(_ id: String) async throws -> Experiment {
    let state = await self.rollout.snapshot
    guard let experiment = state.experiments[id] else {
      throw RolloutError(.notFound, "There is no experiment '\(id.prefix(64))'.")
    }
    return state.message(experiment: experiment)
  }

  package func getExperiment(
    request: GetExperimentRequest, context: ServerContext
  ) async throws -> Experiment {
    try await Status.of { try await self.experiment(request.experimentID) }
  }

  package func listExperiments(
    request: ListExperimentsRequest, context: ServerContext
  ) async throws -> ListExperimentsResponse {
    let state = await self.rollout.snapshot
    return ListExperimentsResponse(
      experiments: state.experiments.values.sorted { $0.number > $1.number }.prefix(1_000)
        .map(state.message(experiment:)))
  }

  package func endExperiment(
    request: EndExperimentRequest, context: ServerContext
  ) async throws -> Experiment {
    try await Status.of {
      let state = await self.rollout.snapshot
      guard let experiment = state.experiments[request.experimentID], experiment.state == .running else {
        return try await self.experiment(request.experimentID)
      }
      let counts = try await self.peers.summarize(Rollout.query(experiment)).counts
      return try await self.rollout.judge(experiment.id, counts: counts, endNow: true)
    }
  }

  // MARK: Robots

  package func getDesiredVersion(
    request: GetDesiredVersionRequest, context: ServerContext
  ) async throws -> DesiredVersion {
    try self.authorize(request.robot, context)
    return await self.rollout.snapshot.desired(request.robot)
  }

  package func reportVersion(
    request: ReportVersionRequest, context: ServerContext
  ) async throws -> DesiredVersion {
    try self.authorize(request.robot, context)
    return try await Status.of { try await self.rollout.report(request) }
  }

  package func getFleetVersions(
    request: GetFleetVersionsRequest, context: ServerContext
  ) async throws -> FleetVersions {
    await self.rollout.snapshot.fleetVersions
  }
}
