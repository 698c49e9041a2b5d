import GRPCCore

/// Decides, for each call and each published message, whether its sender may; lives on its socket's loop.
///
/// `@unchecked Sendable`: only the loop of one socket touches it.
final class AccessControl: @unchecked Sendable {
  /// How long an answer of the store is believed: a revoked key works no longer than this.
  private static let belief: Duration = .milliseconds(500)

  /// Nil without keys: then everything is allowed.
  private let store: KeyStore?
  private let policy: AccessPolicy
  /// By public key; connections have only keys that were authorized once, so this is bounded by the store.
  private var beliefs: [String: (identity: PeerIdentity?, until: ContinuousClock.Instant)] = [:]

  init(store: KeyStore?, policy: AccessPolicy) {
    self.store = store
    self.policy = policy
  }

  /// - Parameter userID: what the connection's authentication wrote.
  /// - Returns: who calls; nil without keys.
  func caller(of method: String, userID: String?) throws(RPCError) -> PeerIdentity? {
    guard self.store != nil else { return nil }
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
    guard self.store != nil else { return (true, nil) }
    guard let identity = self.identity(userID), identity.name == name,
      self.policy.mayPublish(topic, as: identity)
    else {
      BusMetrics.count(.turnedAway)
      return (false, nil)
    }
    return (true, identity)
  }

  /// - Parameter userID: the connection's public key, as the authenticator wrote it.
  private func identity(_ userID: String?) -> PeerIdentity? {
    guard let store, let userID else { return nil }
    let now = ContinuousClock.now
    if let belief = self.beliefs[userID], belief.until > now { return belief.identity }
    let identity = store.identity(ofPublicKey: userID)
    self.beliefs[userID] = (identity, now + Self.belief)
    return identity
  }
}
