import GRPCCore

/// What goes wrong between hosts, each as a chance per message.
public struct NetworkFaults: Sendable {
  public var loss = 0.0
  /// A message that arrives twice, as where a link changes.
  public var duplication = 0.0
  /// A message that is overtaken by those behind it.
  public var reordering = 0.0
  /// A call whose connection breaks somewhere on its way.
  public var breakage = 0.0
  public var delay: ClosedRange<Duration> = .microseconds(100) ... .milliseconds(5)
  public var lateness: ClosedRange<Duration> = .milliseconds(1) ... .seconds(2)

  public init() {}
}

/// What lies between the hosts: publications that may be lost, and calls whose connection may break.
public final class SimulatedNetwork {
  let simulation: Simulation
  public var faults = NetworkFaults()
  /// Time after which a server learns that nobody is behind a connection any more, as the bus does: three heartbeats of two
  /// seconds without an answer, and a moment until it looks.
  static let silence: ClosedRange<Duration> = .seconds(6) ... .seconds(10)
  /// Messages and calls that it harmed so far.
  public internal(set) var failures = 0
  public internal(set) var published = 0
  private var partitions: Set<[String]> = []
  private var lastArrival: [String: Duration] = [:]
  /// What is on its way in each lane and keeps its order.
  private var lanes: [String: [() -> Void]] = [:]
  var random: SimulationRandom

  public init(_ simulation: Simulation) {
    self.simulation = simulation
    self.random = simulation.random.fork()
  }

  // MARK: Partitions

  public func part(_ one: SimulatedHost, from other: SimulatedHost) {
    self.simulation.note("\(one.name) and \(other.name) are parted")
    self.partitions.insert([one.name, other.name].sorted())
    self.failures += 1
  }

  public func join(_ one: SimulatedHost, with other: SimulatedHost) {
    guard self.partitions.remove([one.name, other.name].sorted()) != nil else { return }
    self.simulation.note("\(one.name) and \(other.name) are joined")
  }

  public func isWhole(_ one: SimulatedHost, _ other: SimulatedHost) -> Bool {
    !self.partitions.contains([one.name, other.name].sorted())
  }

  // MARK: Publications

  /// Sends a message that may be lost, come twice, or late.
  /// - Parameters:
  ///   - stream: messages of one stream keep their order, unless one is overtaken.
  ///   - deliver: called with the life of the receiver, if one runs when it arrives.
  public func publish(
    from sender: HostLife, to receiver: SimulatedHost, stream: String,
    deliver: @escaping (HostLife) -> Void
  ) {
    guard sender.isAlive else { return }
    self.published += 1
    guard self.isWhole(sender.host, receiver), !self.random.chance(self.faults.loss) else {
      self.failures += 1
      self.simulation.note("\(stream) to \(receiver.name): lost")
      return
    }
    let isTwice = self.random.chance(self.faults.duplication)
    if isTwice { self.failures += 1 }
    for _ in 0..<(isTwice ? 2 : 1) { self.deliver(sender, receiver, stream, deliver) }
  }

  private func deliver(
    _ sender: HostLife, _ receiver: SimulatedHost, _ stream: String, _ deliver: @escaping (HostLife) -> Void
  ) {
    let lane = "\(sender.host.name)>\(receiver.name):\(stream)"
    let arrive = {
      guard self.isWhole(sender.host, receiver), let life = receiver.life else { return }
      self.simulation.note("\(lane) arrives")
      deliver(life)
    }
    let arrival = self.simulation.elapsed + self.random.within(self.faults.delay)
    if self.random.chance(self.faults.reordering) {
      self.failures += 1
      self.simulation.at(arrival + self.random.within(self.faults.lateness), arrive)
      return
    }
    // Of events that are due together any may be next: each delivers what is first in the lane.
    self.lanes[lane, default: []].append(arrive)
    self.lastArrival[lane] = max(arrival, self.lastArrival[lane, default: .zero])
    self.simulation.at(self.lastArrival[lane] ?? arrival) { self.lanes[lane]?.removeFirst()() }
  }

  // MARK: Calls

  /// Makes a call with a stream of requests and one answer, over a connection that may break at any point: before the
  /// server hears of it, in the midst of the requests, or before its answer arrives.
  /// - Parameters:
  ///   - deadline: time for the whole call; nil for as long as it takes.
  ///   - sent: told of each request that left the client.
  ///   - serve: the server's part, run as a task of the life that hears the call.
  /// - Throws: `RPCError` `.unavailable` where the connection broke, `.deadlineExceeded`, `.cancelled`, or what `serve` threw.
  public func call<Request: Sendable, Response: Sendable>(
    from client: HostLife, to server: SimulatedHost, _ method: String, requests: [Request],
    deadline: Duration? = nil, sent: @escaping () -> Void = {},
    serve: @escaping @Sendable (HostLife, AsyncThrowingStream<Request, any Error>) async throws -> Response
  ) async throws -> Response {
    let call = SimulatedCall<Request, Response>(
      network: self, client: client, server: server, method: method, requests: requests, sent: sent)
    return try await withTaskCancellationHandler {
      let result: Result<Response, any Error> = await withUnsafeContinuation { continuation in
        guard !Task.isCancelled else {
          continuation.resume(returning: Self.failure(.cancelled, "the call was cancelled"))
          return
        }
        call.begin(deadline: deadline, serve: serve) { continuation.resume(returning: $0) }
      }
      return try result.get()
    } onCancel: {
      call.end(.cancelled, "the call was cancelled")
    }
  }

  static func failure<Response>(
    _ code: RPCError.Code, _ message: String
  ) -> Result<Response, any Error> {
    .failure(RPCError(code: code, message: message))
  }
}
