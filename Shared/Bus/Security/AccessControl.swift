import GRPCCore

/// Decides, for each call and each published message, whether its sender may; lives on its socket's loop.
///
/// `@unchecked Sendable`: only the loop of one socket touches it.
final class AccessControl: @unchecked Sendable {
  /// A loop that has connections looks so often whether a key was revoked.
  static let interval: Duration = .milliseconds(500)

  /// Nil without keys: then everything is allowed.
  private let watcher: KeyWatcher?
  private let policy: AccessPolicy
  private var version: UInt64

  init(watcher: KeyWatcher?, policy: AccessPolicy) {
    self.watcher = watcher
    self.policy = policy
    self.version = watcher?.snapshot.version ?? 0
  }

  /// Whether there are keys, and so whether one can be revoked.
  var hasKeys: Bool { self.watcher != nil }

  /// Whether the keys changed since this was last asked.
  func keysChanged() -> Bool {
    guard let version = self.watcher?.snapshot.version, version != self.version else { return false }
    self.version = version
    return true
  }

  /// Whether a peer is still who it was when its call began, and may still make it.
  func stillAllows(_ method: String, to identity: PeerIdentity?, userID: String?) -> Bool {
    guard self.watcher != nil else { return true }
    guard let known = self.identity(userID), known == identity else { return false }
    return self.policy.mayCall(method, as: known.role)
  }

  /// - Parameter userID: what the connection's authentication wrote.
  /// - Returns: who calls; nil without keys.
  func caller(of method: String, userID: String?) throws(RPCError) -> PeerIdentity? {
    guard self.watcher != nil else { return nil }
    guard let identity = self.identity(userID) else {
      BusMetrics.count(.turnedAway)
      throw RPCError(code: .unauthenticated, message: "The key is not authorized, or not any more.")
    }
    guard self.policy.mayCall(method, as: identity.role) else {
      BusMetrics.count(.turnedAway)
      throw RPCError(code: .permissionDenied, message: "\(identity) may not call \(method).")
    }
    return identity
  }

  /// - Returns: whether the message may be believed, and who sent it; no one without keys.
  func publisher(of topic: Topic, named name: String, userID: String?) -> (
    allowed: Bool, identity: PeerIdentity?
  ) {
    guard self.watcher != nil else { return (true, nil) }
    guard let identity = self.identity(userID), identity.name == name,
      self.policy.mayPublish(topic, as: identity)
    else {
      BusMetrics.count(.turnedAway)
      return (false, nil)
    }
    return (true, identity)
  }

  /// - Parameter userID: the connection's public key, as the authenticator wrote it.
  func identity(_ userID: String?) -> PeerIdentity? {
    userID.flatMap { self.watcher?.identity(ofPublicKey: $0) }
  }
}
