import CZeroMQ

/// What ZeroMQ tells about a socket's connections. inproc has none of these events.
final class SocketMonitor: Sendable {
  enum Event: Sendable, Hashable {
    /// A connection was accepted or made, with its descriptor; there was no handshake yet.
    case opened(Int32)
    case connected
    /// With the connection's descriptor, which is closed.
    case disconnected(Int32)
    /// A connection could not be accepted, for this error number.
    case acceptFailed(Int32)
    /// The peer refused this side's key, or has none where one is needed.
    case refused
  }

  let socket: Socket

  /// Watches a socket, which must not be bound or connected yet.
  init(_ watched: Socket) throws {
    let endpoint = "inproc://monitor-\(UInt(bitPattern: watched.handle))"
    let events =
      ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED
      | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_ACCEPT_FAILED
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
      let (number, value) = first.withUnsafeBytes {
        (Int32($0.loadUnaligned(as: UInt16.self)), $0.loadUnaligned(fromByteOffset: 2, as: Int32.self))
      }
      switch number {
      case ZMQ_EVENT_ACCEPTED, ZMQ_EVENT_CONNECTED: return .opened(value)
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .connected
      case ZMQ_EVENT_DISCONNECTED: return .disconnected(value)
      case ZMQ_EVENT_ACCEPT_FAILED: return .acceptFailed(value)
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: return .refused
      default: continue
      }
    }
    return nil
  }

  func close() { self.socket.close() }
}
