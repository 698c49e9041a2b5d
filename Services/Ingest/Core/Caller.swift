import Bus
import GRPCCore

/// Who calls.
enum Caller {
  /// Its role and name; nil where there are no keys.
  static func name(_ context: ServerContext) -> String? { context.peerIdentity?.description }

  /// Whose reads count together: those of a key, or of a connection where there are no keys.
  static func reader(_ context: ServerContext) -> String { context.remotePeer }

  /// A robot may send only its own trials.
  /// - Throws: `RPCError` PERMISSION_DENIED.
  static func require(robot: String, _ context: ServerContext) throws {
    guard let peer = context.peerIdentity, peer.role == .robot, peer.name != robot else { return }
    throw RPCError(
      code: .permissionDenied,
      message: "'\(peer.name)' may upload its own trials only, not those of '\(robot)'.")
  }
}
