import CZeroMQ

/// Answers ZeroMQ's question whether a key may connect (ZAP, RFC 27), on the loop of the socket that asks.
///
/// Each secured socket has a context of its own, and so an authenticator of its own.
final class Authenticator: Sendable {
  let socket: Socket
  private let store: KeyStore

  /// Must exist before `server` is bound.
  init(for server: Socket, keys: (store: KeyStore, own: KeyPair)) throws {
    self.store = keys.store
    self.socket = try Socket(ZMQ_REP, sharing: server)
    try self.socket.set(ZMQ_LINGER, Int32(0))
    try self.socket.bind(Endpoint("inproc://zeromq.zap.01"))
    try server.set(ZMQ_CURVE_SERVER, Int32(1))
    try server.set(ZMQ_CURVE_SECRETKEY, keys.own.secretKey)
    try server.set(ZMQ_ZAP_DOMAIN, "fleetloop")
  }

  /// Answers what waits. On the loop's thread.
  /// - Returns: whether anything waited.
  func turn() -> Bool {
    // Frames: version, request id, domain, address, routing id, mechanism, then the client's key.
    guard let frames = self.socket.receive(limit: 16) else { return false }
    let requestID = frames.count > 1 ? frames[1] : ZeroMQBytes([])
    let key = self.authorizedKey(frames)
    if key == nil { BusMetrics.count(.handshakesRefused) }
    // The connection's user is its key, not its name: a name may get another key while this one is connected.
    // 300 lets the peer try again after the handshake's time, when its key may be authorized; after 400 it would
    // never come back.
    let fields = key.map { ["200", "OK", $0, ""] } ?? ["300", "The key is not authorized", "", ""]
    let reply = [ZeroMQBytes("1.0".utf8), requestID] + fields.map { ZeroMQBytes($0.utf8) }
    _ = self.socket.send(reply)
    return true
  }

  private func authorizedKey(_ frames: [ZeroMQBytes]) -> String? {
    guard frames.count == 7, frames[5].array == Array("CURVE".utf8), frames[6].count == 32 else { return nil }
    let key = KeyPair.encode(frames[6].array)
    return self.store.identity(ofPublicKey: key) == nil ? nil : key
  }

  func close() { self.socket.close() }
}

extension Socket {
  /// Secures a socket that binds, or refuses to bind it in the open.
  /// - Returns: what answers for its peers' keys; nil without keys.
  func secure(_ security: ServerSecurity, at endpoint: Endpoint) throws -> Authenticator? {
    guard let keys = security.keys else {
      guard endpoint.isLocal else {
        throw BusError(
          .keysRequired,
          "\(endpoint) can be reached from other machines and there are no keys. Give a folder of keys, or bind to loopback or ipc."
        )
      }
      return nil
    }
    // inproc never leaves the process, and ZeroMQ has no security there.
    return endpoint.transport == .inproc ? nil : try Authenticator(for: self, keys: keys)
  }

  /// Gives a socket that connects its keys.
  func secure(_ security: ClientSecurity, to endpoint: Endpoint) throws {
    guard let keys = security.keys, endpoint.transport != .inproc else { return }
    try self.set(ZMQ_CURVE_SERVERKEY, keys.serverKey)
    try self.set(ZMQ_CURVE_PUBLICKEY, keys.own.publicKey)
    try self.set(ZMQ_CURVE_SECRETKEY, keys.own.secretKey)
  }
}
