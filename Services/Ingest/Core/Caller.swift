import Bus
import GRPCCore

/// Who calls.
enum Caller {
  /// A robot may send only its own trials.
  /// - Throws: `RPCError` PERMISSION_DENIED.
  static func require(robot: String, _ context: ServerContext) throws {
    guard let peer = context.peerIdentity, peer.role == .robot, peer.name != robot else { return }
    throw RPCError(
      code: .permissionDenied,
      message: "'\(peer.name)' may upload its own trials only, not those of '\(robot)'.")
  }
}
