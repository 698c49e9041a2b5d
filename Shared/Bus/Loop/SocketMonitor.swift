import CZeroMQ

/// What ZeroMQ tells about a socket's connections. inproc has none of these events.
final class SocketMonitor: Sendable {
  enum Event: Sendable, Hashable {
    case connected
    case disconnected
    /// The peer refused this side's key, or has none where one is needed.
    case refused
  }

  let socket: Socket

  /// Watches a socket, which must not be bound or connected yet.
  init(_ watched: Socket) throws {
    let endpoint = "inproc://monitor-\(UInt(bitPattern: watched.handle))"
    let events =
      ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
      | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
    guard zmq_socket_monitor(watched.handle, endpoint, events) == 0 else {
      throw BusError(.systemFailure, "ZeroMQ does not let its socket be watched.")
    }
    self.socket = try Socket(ZMQ_PAIR, sharing: watched)
    try self.socket.set(ZMQ_LINGER, Int32(0))
    try self.socket.connect(Endpoint(endpoint))
  }

  /// The next event, if there is one. On the loop's thread.
  func next() -> Event? {
    while let frames = self.socket.receive(limit: 4) {
      guard let first = frames.first, first.count == 6 else { continue }
      let number = first.withUnsafeBytes { Int32($0.loadUnaligned(as: UInt16.self)) }
      switch number {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .connected
      case ZMQ_EVENT_DISCONNECTED: return .disconnected
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: return .refused
      default: continue
      }
    }
    return nil
  }

  func close() { self.socket.close() }
}
