import Bus
import GRPCCore
import Logging
import Schemas
import ServiceKit
import Storage

/// All that a robot does over one link, until it is cancelled: publishing, listening, calling.
struct LinkSession {
  typealias Client = GRPCClient<ZeroMQClientTransport>
  typealias Part = @Sendable () async throws -> Void

  private let robot: Robot
  private let link: Link
  private let security: RobotAgent.Security
  private let models: ModelKeeper
  private let settings: AgentSettings
  /// Each works until it is cancelled.
  private var parts: [Part] = []
  /// Closed at the end, so that what they hold still goes out.
  private var publishers: [Publisher] = []

  /// Opens sockets to every service of the link.
  /// - Throws: ``BusError`` where one cannot be opened; what `security` throws.
  init(
    robot: Robot, link: Link, security: @escaping RobotAgent.Security, models: ModelKeeper,
    settings: AgentSettings
  ) throws {
    self.robot = robot
    self.link = link
    self.security = security
    self.models = models
    self.settings = settings
    try self.addDelivery()
    try self.addTelemetry()
    try self.addSafety()
    try self.addHealth()
    try self.addVersions()
    try self.addInference()
  }

  /// Works until cancelled; returns at once where the link has no service at all.
  /// - Throws: what ended one of its parts, and with it all.
  func run() async throws {
    self.robot.link = self.link.name
    let result = await Self.run(self.parts, link: self.link.name)
    for publisher in self.publishers { await publisher.close() }
    try result.get()
  }

  private static func run(_ parts: [Part], link: String) async -> Result<Void, any Error> {
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        defer { group.cancelAll() }
        for part in parts { group.addTask { try await part() } }
        guard try await group.next() != nil else { return }
        try Task.checkCancellation()
        throw RobotError(.linkFailed, "A connection over link \(link) ended; all are made anew.")
      }
      return .success(())
    } catch {
      return .failure(error)
    }
  }

  private mutating func addDelivery() throws {
    guard let endpoint = self.link.endpoints.ingestRPC else { return }
    let client = try self.client(endpoint, of: "ingest")
    let ingest = IngestService.Client(wrapping: client)
    let topic = Topic.trials(robot: self.robot.name)
    let publisher = try self.link.endpoints.ingestTrials.map { try self.publisher($0, to: "ingest") }
    let delivery = Delivery(
      robot: self.robot.name, spool: self.robot.spool, configuration: self.settings.delivery,
      runtime: self.robot.runtime, logger: self.robot.logger,
      publish: { try await publisher?.publish(bytes: ZeroMQBytes($0), to: topic) },
      lost: { [robot] in robot.report(lost: $0, at: $1, because: $2) },
      upload: { events, watch in
        try await ingest.upload { writer in
          for event in events {
            try await writer.write(event)
            watch.moved()
          }
        }
      })
    self.parts += [{ try await client.runConnections() }, { await delivery.run() }]
    if let endpoint = self.link.endpoints.ingestPublications {
      let topic = Topic.acknowledgements(robot: self.robot.name)
      try self.listen(endpoint, of: "ingest", to: topic) { (acknowledgement: TrialAcknowledgement) in
        await delivery.hear(acknowledgement)
      }
    }
  }

  private mutating func addTelemetry() throws {
    guard let endpoint = self.link.endpoints.monitorTelemetry else { return }
    let publisher = try self.publisher(endpoint, to: "monitor")
    let topic = Topic.telemetry(robot: self.robot.name)
    let (robot, interval) = (self.robot, self.settings.heartbeatInterval)
    self.parts += [
      {
        while !Task.isCancelled {
          let heartbeat = TelemetryEvent(event: .heartbeat(robot.heartbeat()))
          // The next one makes up for it.
          try? await publisher.publish(heartbeat, to: topic)
          try await robot.runtime.sleep(for: interval)
        }
      },
      {
        await robot.telemetry.drain { events in
          for event in events { try await publisher.publish(event, to: topic) }
        }
      },
    ]
  }

  /// What is published is lost for a monitor that is not there yet: what an operator has to hear of is reported by calls.
  private mutating func addSafety() throws {
    guard let endpoint = self.link.endpoints.monitorRPC else { return }
    let client = try self.client(endpoint, of: "monitor")
    let monitor = MonitorService.Client(wrapping: client)
    let (robot, options) = (self.robot, CallOptions.within(.seconds(5)))
    self.parts += [
      { try await client.runConnections() },
      {
        // A report has events of one session: those that an earlier agent left go by themselves.
        await robot.safety.drain(atMost: 64, together: { $0.session == $1.session }) { events in
          let request = ReportSafetyRequest(robot: robot.name, events: events)
          let confirmed = try await monitor.reportSafety(request, options: options).number
          guard confirmed >= events[events.count - 1].number else {
            throw RobotError(.linkFailed, "The monitor confirmed event \(confirmed) only.")
          }
        }
      },
    ]
  }

  private mutating func addHealth() throws {
    guard let endpoint = self.link.endpoints.monitorPublications else { return }
    let robot = self.robot
    try self.listen(endpoint, of: "monitor", to: .health(robot: robot.name)) { (directive: HealthDirective) in
      await robot.follow(directive)
    }
  }

  private mutating func addVersions() throws {
    guard let endpoint = self.link.endpoints.rolloutRPC else { return }
    let client = try self.client(endpoint, of: "rollout")
    let rollout = RolloutService.Client(wrapping: client)
    let registry = ModelRegistryService.Client(wrapping: client)
    let (models, runtime) = (self.models, self.robot.runtime)
    let (options, patience) = (CallOptions.within(.seconds(5)), self.settings.fetchPatience)
    let follower = VersionFollower(
      robot: self.robot.name, model: self.robot.model, trials: self.robot.trials,
      interval: self.settings.reportInterval, runtime: runtime, logger: self.robot.logger,
      install: { desired, memory in
        try await models.install(desired, memory: memory) { request, take in
          let what = "The transfer of model \(desired.version)"
          try await withProgressDeadline(patience, runtime: runtime, what) { watch in
            try await registry.getModel(request) { response in
              for try await chunk in response.messages {
                watch.moved()
                try await take(chunk)
              }
            }
          }
        }
      },
      remember: { try await models.remember($0) },
      report: { try await rollout.reportVersion($0, options: options) })
    self.parts += [{ try await client.runConnections() }, { await follower.run() }]
    if let endpoint = self.link.endpoints.rolloutPublications {
      let model = self.robot.model
      let topic = Topic.releases(robot: self.robot.name)
      try self.listen(endpoint, of: "rollout", to: topic) { (desired: DesiredVersion) in
        model.desire(desired, from: .publication)
      }
    }
  }

  private mutating func addInference() throws {
    guard let endpoint = self.link.endpoints.inferenceRPC else { return }
    let client = try self.client(endpoint, of: "inference")
    let inference = InferenceService.Client(wrapping: client)
    let (robot, stream) = (self.robot, InferenceStream(runtime: self.robot.runtime))
    self.parts += [
      { try await client.runConnections() },
      {
        robot.remote = stream
        defer { robot.remote = nil }
        await stream.run(inference)
      },
    ]
  }

  /// Hands over what is published about this robot; what is about another, or makes no sense, is left out.
  private mutating func listen<Message: ProtobufMessage>(
    _ endpoint: Endpoint, of service: String, to topic: Topic,
    _ handle: @escaping @Sendable (Message) async -> Void
  ) throws {
    let subscriber = try Subscriber(
      .connect([endpoint]), topics: [topic], security: self.security(service))
    let logger = self.robot.logger
    self.parts.append {
      for await received in subscriber.messages {
        do { await handle(try received.decode(Message.self)) } catch {
          logger.warning("publication not understood", metadata: ["topic": "\(topic)", "error": "\(error)"])
        }
      }
      await subscriber.close()
    }
  }

  private mutating func publisher(_ endpoint: Endpoint, to service: String) throws -> Publisher {
    var configuration = Publisher.Configuration()
    // Events of trials have up to 1 MiB: for a service that stands still less than 64 MiB wait here, twice.
    configuration.queuedMessages = 64
    let publisher = try Publisher(
      .connect([endpoint]), identity: self.robot.name, security: self.security(service),
      configuration: configuration)
    self.publishers.append(publisher)
    return publisher
  }

  private func client(_ endpoint: Endpoint, of service: String) throws -> Client {
    GRPCClient(transport: try Self.transport(endpoint, security: self.security(service)))
  }

  /// As every client of the fleet: calls that may be made twice are made again.
  static func transport(_ endpoint: Endpoint, security: ClientSecurity) throws -> ZeroMQClientTransport {
    var configuration = ZeroMQClientTransport.Configuration()
    configuration.serviceConfig = .retryingIdempotentMethods
    return try ZeroMQClientTransport(connect: endpoint, security: security, configuration: configuration)
  }
}
