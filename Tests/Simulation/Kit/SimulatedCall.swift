import GRPCCore

/// One call on its way, seen from both of its ends.
final class SimulatedCall<Request: Sendable, Response: Sendable>: @unchecked Sendable {
  // Unchecked: used by the simulation's thread only.
  typealias Serve =
    @Sendable (HostLife, AsyncThrowingStream<Request, any Error>) async throws -> Response

  private let network: SimulatedNetwork
  private let client: HostLife
  private let server: SimulatedHost
  private let method: String
  private let requests: [Request]
  private let sent: () -> Void
  private var serverLife: HostLife?
  private var answer: ((Result<Response, any Error>) -> Void)?
  private var stream: AsyncThrowingStream<Request, any Error>.Continuation?
  private var deadline: Timer?

  init(
    network: SimulatedNetwork, client: HostLife, server: SimulatedHost, method: String, requests: [Request],
    sent: @escaping () -> Void
  ) {
    self.network = network
    self.client = client
    self.server = server
    self.method = method
    self.requests = requests
    self.sent = sent
  }

  private var simulation: Simulation { self.network.simulation }

  func begin(
    deadline: Duration?, serve: @escaping Serve, answer: @escaping (Result<Response, any Error>) -> Void
  ) {
    self.answer = answer
    if let deadline {
      self.deadline = self.simulation.after(deadline) {
        self.end(.deadlineExceeded, "no answer within \(deadline)")
      }
    }
    if self.network.random.chance(self.network.faults.breakage) { self.breakLater() }
    self.after(self.pause) { self.open(serve) }
  }

  private var pause: Duration { self.network.random.within(self.network.faults.delay) }

  /// Somewhere between the call's first byte and its answer's last.
  private func breakLater() {
    let longest = self.network.faults.delay.upperBound * (self.requests.count + 4)
    self.simulation.after(self.network.random.within(.zero...longest)) {
      guard self.answer != nil else { return }
      self.network.failures += 1
      self.end(.unavailable, "the connection broke")
    }
  }

  /// Goes on only while the connection holds: both ends alive, nothing between them.
  private func after(_ delay: Duration, _ body: @escaping () -> Void) {
    self.simulation.after(delay) {
      guard self.answer != nil else { return }
      guard self.client.isAlive else { return self.end(.unavailable, "the client is gone") }
      guard self.network.isWhole(self.client.host, self.server) else { return self.stall() }
      if let life = self.serverLife, !life.isAlive { return self.stall() }
      body()
    }
  }

  /// The other end does not answer: the server learns it by heartbeats, the client soon or only by its deadline.
  private func stall() {
    self.tellServer(after: self.network.random.within(SimulatedNetwork.silence))
    guard self.network.random.chance(0.5) else { return }
    self.simulation.after(self.network.random.within(self.network.faults.lateness)) {
      self.end(.unavailable, "the connection broke")
    }
  }

  private func open(_ serve: @escaping Serve) {
    guard let life = self.server.life else { return self.stall() }
    self.serverLife = life
    self.simulation.note("\(self.client.host.name) calls \(self.method)")
    let (requests, continuation) = AsyncThrowingStream<Request, any Error>.makeStream()
    self.stream = continuation
    life.start {
      let result: Result<Response, any Error>
      do { result = .success(try await serve(life, requests)) } catch { result = .failure(error) }
      self.serverEnded(result)
    }
    self.send(0)
  }

  private func send(_ index: Int) {
    self.after(self.pause) {
      guard index < self.requests.count else {
        self.stream?.finish()
        return
      }
      self.stream?.yield(self.requests[index])
      self.sent()
      self.send(index + 1)
    }
  }

  private func serverEnded(_ result: Result<Response, any Error>) {
    guard let life = self.serverLife, life.isAlive else { return }
    self.after(self.pause) { self.finish(result) }
  }

  /// Ends the call for the client; the server learns it later.
  func end(_ code: RPCError.Code, _ message: String) {
    guard self.answer != nil else { return }
    self.simulation.note("\(self.client.host.name) \(self.method): \(message)")
    self.finish(SimulatedNetwork.failure(code, message))
    let silence = SimulatedNetwork.silence
    if !self.network.isWhole(self.client.host, self.server) {
      self.tellServer(after: self.network.random.within(silence))
    } else if !self.client.isAlive {
      // A process that dies has its connections closed, a machine without power closes none.
      self.tellServer(after: self.network.random.within(.zero...silence.upperBound))
    } else {
      self.tellServer(after: self.pause)
    }
  }

  /// The server's handler learns that its client is gone.
  private func tellServer(after delay: Duration) {
    self.simulation.after(delay) {
      self.stream?.finish(throwing: RPCError(code: .cancelled, message: "the client is gone"))
    }
  }

  private func finish(_ result: Result<Response, any Error>) {
    guard let answer = self.answer else { return }
    self.answer = nil
    self.deadline?.cancel()
    answer(result)
  }
}
