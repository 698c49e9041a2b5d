import Bus
import GRPCCore
import Logging
import Schemas
import ServiceKit

/// All that a robot does over one link, until it is cancelled: publishing, listening, calling.
struct LinkSession: Sendable {
  typealias Client = GRPCClient<ZeroMQClientTransport>

  let robot: Robot
  let link: Link
  let security: RobotAgent.Security
  let models: ModelKeeper
  let settings: AgentSettings

  func run() async throws {
    self.robot.link = self.link.name
    try await withThrowingTaskGroup(of: Void.self) { group in
      defer { group.cancelAll() }
      try self.addDelivery(to: &group)
      try self.addTelemetry(to: &group)
      try self.addHealth(to: &group)
      try self.addVersions(to: &group)
      try self.addInference(to: &group)
      // Without any service there is nothing to wait for, yet the session must not end.
      group.addTask { try await Task.sleep(for: .seconds(1 << 30)) }
      try await group.waitForAll()
    }
  }

  private func addDelivery(to group: inout ThrowingTaskGroup<Void, any Error>) throws {
    guard let endpoint = self.link.endpoints.ingestRPC else { return }
    let client = try self.client(endpoint, of: "ingest")
    let ingest = IngestService.Client(wrapping: client)
    let topic = Topic.trials(robot: self.robot.name)
    let publisher = try self.link.endpoints.ingestTrials.map { try self.publisher($0, to: "ingest") }
    let options = CallOptions.within(self.settings.delivery.uploadTimeout)
    let delivery = Delivery(
      robot: self.robot, configuration: self.settings.delivery,
      publish: { try await publisher?.publish($0, to: topic) },
      upload: { events in
        try await ingest.upload(options: options) { writer in
          for event in events { try await writer.write(event) }
        }
      })
    group.addTask { try await client.runConnections() }
    group.addTask { await delivery.run() }
    if let endpoint = self.link.endpoints.ingestPublications {
      try self.listen(endpoint, of: "ingest", to: "acks", &group) { (acknowledgement: TrialAcknowledgement) in
        await delivery.hear(acknowledgement)
      }
    }
    if let publisher { self.closeAtEnd(publisher, &group) }
  }

  private func addTelemetry(to group: inout ThrowingTaskGroup<Void, any Error>) throws {
    guard let endpoint = self.link.endpoints.monitorTelemetry else { return }
    let publisher = try self.publisher(endpoint, to: "monitor")
    let topic = Topic.telemetry(robot: self.robot.name)
    let (robot, interval) = (self.robot, self.settings.heartbeatInterval)
    group.addTask {
      while !Task.isCancelled {
        let heartbeat = TelemetryEvent(event: .heartbeat(await robot.heartbeat()))
        try? await publisher.publish(heartbeat, to: topic)
        try await Task.sleep(for: interval)
      }
    }
    group.addTask {
      for await event in robot.telemetry.events { try? await publisher.publish(event, to: topic) }
    }
    self.closeAtEnd(publisher, &group)
  }

  private func addHealth(to group: inout ThrowingTaskGroup<Void, any Error>) throws {
    guard let endpoint = self.link.endpoints.monitorPublications else { return }
    let robot = self.robot
    try self.listen(endpoint, of: "monitor", to: "health", &group) { (directive: HealthDirective) in
      await robot.follow(directive)
    }
  }

  private func addVersions(to group: inout ThrowingTaskGroup<Void, any Error>) throws {
    guard let endpoint = self.link.endpoints.rolloutRPC else { return }
    let client = try self.client(endpoint, of: "rollout")
    let rollout = RolloutService.Client(wrapping: client)
    let registry = ModelRegistryService.Client(wrapping: client)
    let models = self.models
    let options = CallOptions.within(.seconds(5))
    let follower = VersionFollower(
      robot: self.robot, interval: self.settings.reportInterval,
      install: { version in
        try await models.policy(version: version) { request, take in
          try await registry.getModel(request) { response in
            for try await chunk in response.messages { try await take(chunk) }
          }
        }
      },
      report: { try await rollout.reportVersion($0, options: options) })
    group.addTask { try await client.runConnections() }
    group.addTask { await follower.run() }
    if let endpoint = self.link.endpoints.rolloutPublications {
      let model = self.robot.model
      try self.listen(endpoint, of: "rollout", to: "releases", &group) { (desired: DesiredVersion) in
        model.desire(desired)
      }
    }
  }

  private func addInference(to group: inout ThrowingTaskGroup<Void, any Error>) throws {
    guard let endpoint = self.link.endpoints.inferenceRPC else { return }
    let client = try self.client(endpoint, of: "inference")
    let inference = InferenceService.Client(wrapping: client)
    let (robot, stream) = (self.robot, InferenceStream())
    group.addTask { try await client.runConnections() }
    group.addTask {
      robot.remote = stream
      defer { robot.remote = nil }
      await stream.run(inference)
    }
  }

  /// Hands over what is published about this robot; what is about another, or makes no sense, is left out.
  private func listen<Message: ProtobufMessage>(
    _ endpoint: Endpoint, of service: String, to topic: String,
    _ group: inout ThrowingTaskGroup<Void, any Error>,
    _ handle: @escaping @Sendable (Message) async -> Void
  ) throws {
    let subscriber = try Subscriber(
      .connect([endpoint]), topics: [Topic("\(topic)/\(self.robot.name)")], security: self.security(service))
    let logger = self.robot.logger
    group.addTask {
      for await received in subscriber.messages {
        do { await handle(try received.decode(Message.self)) } catch {
          logger.warning("publication not understood", metadata: ["topic": "\(topic)", "error": "\(error)"])
        }
      }
      await subscriber.close()
    }
  }

  private func publisher(_ endpoint: Endpoint, to service: String) throws -> Publisher {
    try Publisher(.connect([endpoint]), identity: self.robot.name, security: self.security(service))
  }

  private func closeAtEnd(_ publisher: Publisher, _ group: inout ThrowingTaskGroup<Void, any Error>) {
    group.addTask {
      try? await Task.sleep(for: .seconds(1 << 30))
      await publisher.close()
    }
  }

  private func client(_ endpoint: Endpoint, of service: String) throws -> Client {
    GRPCClient(transport: try ZeroMQClientTransport(connect: endpoint, security: self.security(service)))
  }
}
