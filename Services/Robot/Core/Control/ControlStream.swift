import GRPCCore
import Schemas
import Synchronization

/// One trial's stream: each request has one response. Whatever ends it, the trial does not stay open.
struct ControlStream: Sendable {
  /// How a stream ended without its trial being finished.
  private enum Loss: Error { case silent, evicted }

  private let robot: Robot
  private let makeCompressor: @Sendable (Int, Int) throws -> any ImageCompressor
  private let heard = LastHeard()

  init(robot: Robot, makeCompressor: @escaping @Sendable (Int, Int) throws -> any ImageCompressor) {
    self.robot = robot
    self.makeCompressor = makeCompressor
  }

  func run(
    requests: RPCAsyncSequence<ControlRequest, any Error>, responses: RPCWriter<ControlResponse>
  ) async throws {
    self.robot.streams.withLock { $0[ObjectIdentifier(self.heard)] = self.heard }
    defer { self.robot.streams.withLock { $0[ObjectIdentifier(self.heard)] = nil } }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await self.serve(requests, responses) }
      group.addTask { try await self.watch() }
      defer { group.cancelAll() }
      do {
        try await group.next()
      } catch let loss as Loss {
        group.cancelAll()
        // The trial is filed as aborted before the caller hears of it.
        _ = await group.nextResult()
        let why =
          loss == .silent
          ? "No observation for \(self.robot.configuration.controlTimeout); the trial was filed as aborted."
          : "The control program asked for other work; the trial was filed as aborted."
        throw RPCError(code: .aborted, message: why)
      }
    }
  }

  private func serve(
    _ requests: RPCAsyncSequence<ControlRequest, any Error>, _ responses: RPCWriter<ControlResponse>
  ) async throws {
    var session: TrialSession?
    do {
      for try await message in requests {
        self.heard.now(answering: true)
        switch message.request {
        case .start(let start):
          guard session == nil else { throw RobotError(.invalidRequest, "One stream carries one trial.") }
          session = try await TrialSession(start, robot: self.robot, makeCompressor: self.makeCompressor)
          if let started = session?.started {
            self.heard.trial(started.trialID)
            // Told to give way while it began: the watch looks again.
            self.robot.trials.changed.notify()
            self.heard.now(answering: false)
            try await responses.write(ControlResponse(response: .started(started)))
          }
        case .observe(let observe):
          guard let command = try await session?.observe(observe) else { throw Self.tooEarly }
          self.heard.now(answering: false)
          try await responses.write(ControlResponse(response: .command(command)))
        case .finish(let finish):
          self.heard.end()
          guard let filed = try await session?.finish(finish) else { throw Self.tooEarly }
          session = nil
          self.heard.now(answering: false)
          try await responses.write(ControlResponse(response: .filed(filed)))
        case nil:
          throw RobotError(.invalidRequest, "A control request has a start, an observation or a finish.")
        }
      }
    } catch {
      // The trial ends here: that its slot gets free is no eviction.
      self.heard.end()
      await session?.abort(code: Self.failureCode(of: error))
      throw error
    }
    self.heard.end()
    await session?.abort(code: "control-lost")
  }

  /// Throws once the program has been silent for too long, or came back without the trial.
  private func watch() async throws {
    while true {
      let seen = self.robot.trials.changed.changes
      if let trialID = self.heard.trialID, !self.robot.trials.isWanted(trialID) { throw Loss.evicted }
      let left = self.robot.configuration.controlTimeout - self.heard.silence
      guard left > .zero else { throw Loss.silent }
      await self.robot.trials.changed.wait(beyond: seen, atMost: left)
      try Task.checkCancellation()
    }
  }

  private static var tooEarly: RobotError {
    RobotError(.invalidRequest, "A stream begins with StartTrial.")
  }

  private static func failureCode(of error: any Error) -> String {
    if !(error is RobotError), !(error is RPCError), !(error is CancellationError) {
      return "recording-failed"
    }
    return switch (error as? RobotError)?.code {
    case .invalidRequest: "bad-observation"
    case .diskFailed, .spoolFull: "disk-full"
    case .tooLarge: "too-large"
    default: "control-lost"
    }
  }
}

/// When a stream was heard last, and about which trial.
final class LastHeard: Sendable {
  private let state = Mutex<(at: ContinuousClock.Instant, answering: Bool, trialID: String?)>(
    (.now, false, nil))

  /// Time for which the program has owed a word: while the robot works on an answer, a slow disk included, it owes none.
  var silence: Duration { self.state.withLock { $0.answering ? .zero : .now - $0.at } }
  /// Time for which the robot has worked on an answer, or on the trial's end.
  var wait: Duration { self.state.withLock { $0.answering ? .now - $0.at : .zero } }
  var trialID: String? { self.state.withLock { $0.trialID } }

  func now(answering: Bool) { self.state.withLock { ($0.at, $0.answering) = (.now, answering) } }
  func trial(_ id: String) { self.state.withLock { $0.trialID = id } }
  /// The trial is being filed: nobody may take it for lost any more.
  func end() { self.state.withLock { $0 = (.now, true, nil) } }
}
