import CZeroMQ
import Synchronization

/// Answers ZeroMQ's question whether a key may connect (ZAP, RFC 27), on the loop of the socket that asks.
///
/// Each secured socket has a context of its own, and so an authenticator of its own. A key that is not known may have been
/// authorized this moment, and who is refused comes back only later: its answer waits for another look at the folder, which
/// is not taken on the loop.
final class Authenticator: Sendable {
  private struct Question: Sendable {
    /// Routing id, delimiter, version and request id: what an answer begins with.
    let head: [ZeroMQBytes]
    /// In Z85.
    let key: String
  }

  private struct Questions: Sendable {
    /// Those that the look that is under way will answer.
    var asked: [Question] = []
    /// Those that came since.
    var waiting: [Question] = []
  }

  /// More strangers at once are refused without a look.
  private static let mostWaiting = 1024

  let socket: Socket
  private let watcher: KeyWatcher
  private let loop: SocketLoop
  /// Of the loop only; locked because the compiler cannot know that.
  private let questions = Mutex(Questions())
  /// The look that was asked for was taken.
  private let hasLooked = Atomic<Bool>(false)

  /// Must exist before `server` is bound.
  init(for server: Socket, keys: (watcher: KeyWatcher, own: KeyPair), on loop: SocketLoop) throws {
    self.watcher = keys.watcher
    self.loop = loop
    // ROUTER and not REP: answers come in an order of their own.
    self.socket = try Socket(ZMQ_ROUTER, sharing: server)
    try self.socket.set(ZMQ_LINGER, Int32(0))
    try self.socket.bind(Endpoint("inproc://zeromq.zap.01"))
    try server.set(ZMQ_CURVE_SERVER, Int32(1))
    try server.set(ZMQ_CURVE_SECRETKEY, keys.own.secretKey)
    try server.set(ZMQ_ZAP_DOMAIN, "fleetloop")
  }

  /// Answers what waits. On the loop's thread.
  /// - Returns: whether anything waited.
  func turn() -> Bool {
    self.questions.withLock { questions in
      let hasLooked = self.hasLooked.exchange(false, ordering: .acquiringAndReleasing)
      if hasLooked {
        for question in questions.asked { self.answer(question) }
        questions.asked = []
      }
      let frames = self.socket.receive(limit: 16)
      if let frames { self.hear(frames, &questions) }
      if questions.asked.isEmpty, !questions.waiting.isEmpty {
        swap(&questions.asked, &questions.waiting)
        self.watcher.look { [weak self] in
          self?.hasLooked.store(true, ordering: .releasing)
          self?.loop.wake()
        }
      }
      return hasLooked || frames != nil
    }
  }

  /// Frames: routing id, delimiter, version, request id, domain, address, routing id, mechanism, then the client's key.
  private func hear(_ frames: [ZeroMQBytes], _ questions: inout Questions) {
    guard frames.count >= 4 else { return }
    let isCurve = frames.count == 9 && frames[7].array == Array("CURVE".utf8) && frames[8].count == 32
    let question = Question(
      head: Array(frames[..<4]), key: isCurve ? KeyPair.encode(frames[8].array) : "")
    let isKnown = self.watcher.identity(ofPublicKey: question.key) != nil
    if isKnown || !isCurve || questions.waiting.count >= Self.mostWaiting { return self.answer(question) }
    BusMetrics.count(.handshakesHeld)
    questions.waiting.append(question)
  }

  private func answer(_ question: Question) {
    let isKnown = self.watcher.identity(ofPublicKey: question.key) != nil
    if !isKnown { BusMetrics.count(.handshakesRefused) }
    // The connection's user is its key, not its name: a name may get another key while this one is connected.
    // 300 lets the peer try again after the handshake's time, when its key may be authorized; after 400 it would
    // never come back.
    let fields = isKnown ? ["200", "OK", question.key, ""] : ["300", "The key is not authorized", "", ""]
    _ = self.socket.send(question.head + fields.map { ZeroMQBytes($0.utf8) })
  }

  func close() { self.socket.close() }
}

extension Socket {
  /// Secures a socket that binds, or refuses to bind it in the open.
  /// - Parameter loop: the socket's.
  /// - Returns: what answers for its peers' keys; nil without keys.
  func secure(_ security: ServerSecurity, at endpoint: Endpoint, on loop: SocketLoop) throws
    -> Authenticator?
  {
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
    return endpoint.transport == .inproc ? nil : try Authenticator(for: self, keys: keys, on: loop)
  }

  /// Gives a socket that connects its keys, or refuses to leave the machine without.
  func secure(_ security: ClientSecurity, to endpoint: Endpoint) throws {
    guard let keys = security.keys else {
      guard endpoint.isLocal else {
        throw BusError(
          .keysRequired,
          "\(endpoint) is not on this machine and there are no keys: anybody could answer there and read what is sent. Give a folder of keys that knows the server's, or connect to loopback or ipc."
        )
      }
      return
    }
    guard endpoint.transport != .inproc else { return }
    try self.set(ZMQ_CURVE_SERVERKEY, keys.serverKey)
    try self.set(ZMQ_CURVE_PUBLICKEY, keys.own.publicKey)
    try self.set(ZMQ_CURVE_SECRETKEY, keys.own.secretKey)
  }
}
