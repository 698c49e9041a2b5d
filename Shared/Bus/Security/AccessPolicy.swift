/// Which role may call which methods and publish which topics.
public struct AccessPolicy: Sendable, Hashable {
  /// Methods a role may call: "package.Service/Method", "package.Service/*", or "*". Roles that are not named may call none.
  public var methods: [Role: [String]]
  /// First parts of the topics that a role may publish. A robot's topic must go on with its own name.
  public var topics: [Role: [String]]

  public init(methods: [Role: [String]], topics: [Role: [String]]) {
    self.methods = methods
    self.topics = topics
  }

  /// Any authorized key may do anything but publish as another robot.
  public static let anyone = AccessPolicy(
    methods: Dictionary(uniqueKeysWithValues: Role.allCases.map { ($0, ["*"]) }),
    topics: Dictionary(uniqueKeysWithValues: Role.allCases.map { ($0, ["*"]) }))

  /// The fleet's: services and operators may call everything; a robot what a robot and its control program need.
  public static let fleet: AccessPolicy = {
    let others = Role.allCases.filter { $0 != .robot }
    var methods = Dictionary(uniqueKeysWithValues: others.map { ($0, ["*"]) })
    methods[.robot] = [
      "grpc.health.v1.Health/*",
      "fleetloop.v1.IngestService/Upload",
      "fleetloop.v1.InferenceService/Act", "fleetloop.v1.InferenceService/Predict",
      "fleetloop.v1.RolloutService/GetDesiredVersion", "fleetloop.v1.RolloutService/ReportVersion",
      "fleetloop.v1.ModelRegistryService/GetModel", "fleetloop.v1.MonitorService/ReportSafety",
      // Served by agents: their own control programs have the robot's key.
      "fleetloop.v1.RobotService/*",
    ]
    return AccessPolicy(
      methods: methods,
      topics: [
        .robot: ["trials", "telemetry"], .ingest: ["acks", "outcomes"], .monitor: ["alerts", "health"],
        .rollout: ["releases"], .training: ["training"],
      ])
  }()

  /// The fleet's methods that must get through whatever else is open: a safety stop, and what says how things are.
  public static let priorityMethods: Set<String> = [
    "grpc.health.v1.Health/Check", "fleetloop.v1.RobotService/Stop", "fleetloop.v1.RobotService/GetStatus",
  ]

  /// - Parameter method: full name, "package.Service/Method".
  public func mayCall(_ method: String, as role: Role) -> Bool {
    (self.methods[role] ?? []).contains { pattern in
      pattern == "*" || pattern == method || pattern.hasSuffix("/*") && method.hasPrefix(pattern.dropLast())
    }
  }

  /// A robot speaks for itself only: the topic's second part is its name.
  public func mayPublish(_ topic: Topic, as identity: PeerIdentity) -> Bool {
    let parts = topic.parts
    guard let first = parts.first else { return false }
    let patterns = self.topics[identity.role] ?? []
    guard patterns.contains("*") || patterns.contains(String(first)) else { return false }
    return identity.role != .robot || parts.count == 2 && parts[1] == identity.name
  }
}
