public import GRPCCore

/// What a peer of the fleet is, and so what it may do.
public enum Role: String, Sendable, Hashable, Codable, CaseIterable {
  case robot, ingest, training, inference, monitor, rollout
  /// A person with the command line.
  case `operator`
}

/// Who is at the other end, as its key proves.
public struct PeerIdentity: Sendable, Hashable, Codable, CustomStringConvertible {
  public var name: String
  public var role: Role

  public init(name: String, role: Role) {
    self.name = name
    self.role = role
  }

  /// Who makes the call that the current task serves; nil without keys.
  @TaskLocal public static var current: PeerIdentity?

  public var description: String { "\(self.role.rawValue)/\(self.name)" }
}

extension PeerIdentity: ServerContext.TransportSpecific {}

extension ServerContext {
  /// Who makes the call, as its key proves; nil without keys.
  public var peerIdentity: PeerIdentity? { self.transportSpecific as? PeerIdentity }
}
