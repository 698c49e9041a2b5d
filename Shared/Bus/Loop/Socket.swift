import CPoller
import CZeroMQ
import Foundation

/// A ZeroMQ context: its end waits until what its sockets sent is out, at most their linger time.
///
/// `@unchecked Sendable`: a context may be used by every thread; only its pointer is not known to be Sendable.
final class SocketContext: @unchecked Sendable {
  /// inproc endpoints meet within a context, so all of a process share this one, which lives as long as the process.
  static let shared = SocketContext()

  let handle: UnsafeMutableRawPointer?

  init() {
    self.handle = zmq_ctx_new()
    // All inproc sockets of a process share one context, whose default is 1023.
    if let handle {
      zmq_ctx_set(handle, ZMQ_MAX_SOCKETS, Int32(min(DescriptorLimit.current.soft, 16_384)))
      zmq_ctx_set(handle, ZMQ_THREAD_NAME_PREFIX, Int32(cpoller_thread_prefix))
    }
  }

  // The last socket to close lets go of its context, so that nothing is open in it any more.
  deinit {
    guard let handle else { return }
    while zmq_ctx_term(handle) != 0 && zmq_errno() == EINTR {}
  }
}

/// A ZeroMQ socket.
///
/// `@unchecked Sendable`: it is made on one thread and then handed to a loop's thread, the only one that touches
/// it from then on; starting that thread is the barrier that ZeroMQ demands for such a move.
final class Socket: @unchecked Sendable {
  let handle: UnsafeMutableRawPointer
  /// Nil once the socket is closed.
  private var context: SocketContext?

  /// - Parameter isolated: false for inproc. A context of its own has its own authentication.
  convenience init(_ type: Int32, isolated: Bool) throws {
    try self.init(type, in: isolated ? SocketContext() : SocketContext.shared)
  }

  /// A socket in another's context, for what concerns that socket only.
  convenience init(_ type: Int32, sharing other: Socket) throws {
    try self.init(type, in: other.context ?? SocketContext.shared)
  }

  private init(_ type: Int32, in context: SocketContext) throws {
    guard let handle = context.handle.flatMap({ zmq_socket($0, type) }) else {
      throw BusError(
        .systemFailure, "ZeroMQ has no room for another socket. \(DescriptorLimit.advice)")
    }
    self.context = context
    self.handle = handle
    // A peer that is not let in is dropped after this time, and may try again.
    try self.set(ZMQ_HANDSHAKE_IVL, Int32(3000))
    // Until it is set otherwise: a socket that could not be set up must not hold up the end of its context.
    try self.set(ZMQ_LINGER, Int32(0))
  }

  deinit { self.close() }

  /// Closes; the last of a context waits at most the linger time until what was sent is out.
  func close() {
    guard self.context != nil else { return }
    zmq_close(self.handle)
    self.context = nil
  }

  func set(_ option: Int32, _ value: Int32) throws {
    var value = value
    try self.check(czmq_set(self.handle, option, &value, MemoryLayout<Int32>.size), option)
  }

  func set(_ option: Int32, _ value: Int64) throws {
    var value = value
    try self.check(czmq_set(self.handle, option, &value, MemoryLayout<Int64>.size), option)
  }

  func set(_ option: Int32, _ bytes: [UInt8]) throws {
    try self.check(czmq_set(self.handle, option, bytes, bytes.count), option)
  }

  func set(_ option: Int32, _ text: String) throws { try self.set(option, Array(text.utf8)) }

  /// ZMTP's own heartbeats: a peer that says nothing for three intervals is lost.
  func setHeartbeat(_ interval: Duration) throws {
    let milliseconds = interval.wholeMilliseconds
    try self.set(ZMQ_HEARTBEAT_IVL, milliseconds)
    try self.set(ZMQ_HEARTBEAT_TIMEOUT, milliseconds * 3)
    // Lets the peer know when to give this side up; ZMTP counts it in tenths of a second, up to 6553 s.
    try self.set(ZMQ_HEARTBEAT_TTL, min(milliseconds * 3, 6_500_000))
  }

  private func check(_ error: Int32, _ option: Int32) throws {
    guard error == 0 else {
      throw BusError(.systemFailure, "ZeroMQ refused socket option \(option): \(Self.describe(error)).")
    }
  }

  func bind(_ endpoint: Endpoint) throws {
    let error = czmq_bind(self.handle, endpoint.description)
    guard error != 0 else { return }
    if error == EADDRINUSE {
      throw BusError(
        .endpointInUse, "\(endpoint) is taken: another process is bound there. Stop it or choose another.")
    }
    throw BusError(
      .endpointUnavailable, "\(endpoint) cannot be bound: \(Self.describe(error)).\(Self.advice(error))")
  }

  func connect(_ endpoint: Endpoint) throws {
    let error = czmq_connect(self.handle, endpoint.description)
    guard error == 0 else {
      throw BusError(
        .endpointUnavailable,
        "\(endpoint) cannot be connected: \(Self.describe(error)).\(Self.advice(error))")
    }
  }

  /// Where the socket is bound, with the real port.
  func lastEndpoint() throws -> Endpoint {
    var text = [CChar](repeating: 0, count: 512)
    var size = text.count
    guard zmq_getsockopt(self.handle, ZMQ_LAST_ENDPOINT, &text, &size) == 0 else {
      throw BusError(.systemFailure, "ZeroMQ does not tell where the socket is bound.")
    }
    return try Endpoint(
      String(decoding: text.prefix(max(0, size - 1)).map(UInt8.init(bitPattern:)), as: UTF8.self))
  }

  /// Whether a message could be sent now.
  var isWritable: Bool {
    var events: Int32 = 0
    var size = MemoryLayout<Int32>.size
    return zmq_getsockopt(self.handle, ZMQ_EVENTS, &events, &size) == 0 && events & ZMQ_POLLOUT != 0
  }

  /// Sends a message of one or more frames without waiting.
  /// - Returns: 0, or the error number of its first frame; then nothing was sent.
  func send(_ frames: [ZeroMQBytes]) -> Int32 {
    for (index, frame) in frames.enumerated() {
      let error = frame.send(on: self.handle, more: index < frames.count - 1)
      // Once ZeroMQ has the first frame it takes the others: a message is atomic.
      if error != 0 { return error }
    }
    return 0
  }

  /// Sends a message whose bytes an account holds until ZeroMQ has written them.
  /// - Returns: 0, or the error number of its first frame; then nothing was sent.
  func send(
    to address: [ZeroMQBytes], header: ZeroMQBytes, messages: [ZeroMQBytes], charge: Int,
    to account: ByteAccount
  ) -> Int32 {
    for frame in address {
      let error = frame.send(on: self.handle, more: true)
      if error != 0 { return error }
    }
    let error = header.withUnsafeBytes {
      czmq_send_charged(
        $0.baseAddress, $0.count, Int64(charge), account.handle, self.handle, messages.isEmpty ? 0 : 1)
    }
    return error != 0 || messages.isEmpty ? error : self.send(messages)
  }

  /// The next message's frames, or nil if there is none. A message of more frames than `limit` comes with `limit` + 1, and its
  /// others are dropped; how many those can be is bounded in `meter.c`.
  func receive(limit: Int) -> [ZeroMQBytes]? {
    guard let first = ZeroMQBytes.receive(on: self.handle) else { return nil }
    var frames = [first]
    while let last = frames.last, last.hasMore {
      if frames.count > limit {
        czmq_drop_rest(self.handle)
        break
      }
      guard let frame = ZeroMQBytes.receive(on: self.handle) else { break }
      frames.append(frame)
    }
    if let connection = frames.last?.connection { cpoller_delivered(connection) }
    return frames
  }

  private static func advice(_ error: Int32) -> String {
    DescriptorLimit.isExhausted(error) ? " " + DescriptorLimit.advice : ""
  }

  static func describe(_ error: Int32) -> String { String(cString: zmq_strerror(error)) }
}
