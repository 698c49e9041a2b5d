/// Where a message is published: parts separated by "/", e.g. "trials/robot-1".
public struct Topic: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
  public let path: String

  /// A longer path is refused.
  static let longest = 255

  /// Any text; ``Publisher`` and ``Subscriber`` refuse one that is no topic.
  public init(_ path: String) { self.path = path }
  public init(stringLiteral path: String) { self.path = path }

  /// A robot's trial events, for ingest.
  public static func trials(robot: String) -> Topic { Topic("trials/\(robot)") }
  /// A robot's telemetry, for monitor.
  public static func telemetry(robot: String) -> Topic { Topic("telemetry/\(robot)") }
  /// Ingest's acknowledgements to a robot.
  public static func acknowledgements(robot: String) -> Topic { Topic("acks/\(robot)") }
  /// Stored outcomes of a robot's trials.
  public static func outcomes(robot: String) -> Topic { Topic("outcomes/\(robot)") }
  public static func alerts(severity: String) -> Topic { Topic("alerts/\(severity)") }
  /// Monitor's directives to a robot.
  public static func health(robot: String) -> Topic { Topic("health/\(robot)") }
  /// The version that a robot should run.
  public static func releases(robot: String) -> Topic { Topic("releases/\(robot)") }
  public static func training(job: String) -> Topic { Topic("training/\(job)") }

  public var description: String { self.path }

  var parts: [Substring] { self.path.split(separator: "/", omittingEmptySubsequences: false) }

  /// Whether messages may be published there.
  var isValid: Bool {
    !self.path.isEmpty && self.path.utf8.count <= Self.longest
      && self.path.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F } && self.parts.allSatisfy { !$0.isEmpty }
  }

  /// Whether this topic is `prefix` or below it; "" and "trials/" are prefixes too.
  public func isWithin(_ prefix: Topic) -> Bool {
    let prefix = prefix.path.hasSuffix("/") ? String(prefix.path.dropLast()) : prefix.path
    return prefix.isEmpty || self.path == prefix || self.path.hasPrefix(prefix + "/")
  }

  /// What ZeroMQ compares the beginning of a message with; it knows no parts, so ``isWithin(_:)`` must look again.
  var subscription: String { self.path.hasSuffix("/") ? String(self.path.dropLast()) : self.path }
}
