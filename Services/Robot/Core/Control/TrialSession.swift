import Logging
import Schemas
import Storage
import Trials

/// One trial as the robot sees it: checks what the control program says, chooses and limits actions, records.
///
/// Belongs to the task that handles the program's stream.
struct TrialSession {
  private let robot: Robot
  private let header: TrialHeader
  private let recorder: TrialRecorder
  private let began: ContinuousClock.Instant
  /// ``Condition/standstills`` before the trial: one more, and it only holds still until it ends.
  private let standstills: UInt64
  private var source: ActionSource
  private var previous: [Float] = [0, 0, 0, 0]
  private var nextStep: UInt32 = 0
  private var reported: Set<String> = []
  /// The step that the recorder works on while the robot moves.
  private var recording: Task<Void, any Error>?

  var trialID: String { self.header.trialID }
  var started: TrialStarted {
    TrialStarted(trialID: self.header.trialID, modelVersion: self.header.modelVersion)
  }

  /// Begins a trial.
  /// - Throws: ``RobotError``: `.notReady`, `.spoolFull`, `.diskFailed`, `.invalidRequest`.
  init(
    _ start: StartTrial, robot: Robot,
    makeCompressor: @escaping @Sendable (Int, Int) throws -> any ImageCompressor
  ) async throws {
    try RequestChecks.check(start)
    // In this order: a stop that comes between the two is seen by the first observation.
    self.standstills = robot.condition.standstills
    if let obstacle = robot.condition.obstacle { throw RobotError(.notReady, obstacle) }
    let model = start.mode == .demonstration ? nil : robot.model.installed
    let trialID = Self.newTrialID(robot.runtime)
    let identity = robot.configuration.identity
    self.header = TrialHeader(
      trialID: trialID, robot: identity.name, facility: identity.facility, task: start.task, mode: start.mode,
      modelVersion: model?.policy.version ?? "", startedUnixNanos: robot.runtime.unixNanos(),
      hardwareCohort: identity.cohort, seed: start.seed, imageHeight: start.imageHeight,
      imageWidth: start.imageWidth, controlHertz: start.controlHertz,
      releaseID: robot.model.desired.version == model?.policy.version ? robot.model.desired.releaseID : "",
      orderID: start.orderID, labels: start.labels)
    self.robot = robot
    self.began = robot.runtime.now()
    let version = start.mode == .demonstration ? nil : header.modelVersion
    let path: String
    do {
      path = try await robot.spool.admit(trialID: trialID)
      try robot.trials.take(.init(trialID: trialID, modelVersion: version))
    } catch {
      await robot.queue.declined(orderID: start.orderID, seed: start.seed)
      throw error
    }
    do {
      try await robot.queue.started(orderID: start.orderID, seed: start.seed)
      self.recorder = try TrialRecorder(
        header: self.header, path: path, disk: robot.disk, executor: robot.recorderExecutor,
        limitBytes: robot.configuration.trialBytes, makeCompressor: makeCompressor)
    } catch {
      await robot.queue.returned(orderID: start.orderID, seed: start.seed)
      await robot.spool.discard(trialID: trialID)
      robot.trials.release(trialID)
      throw error
    }
    self.source = ActionSource(
      remote: robot.remote, local: model, budget: robot.configuration.actionBudget,
      executedOfChunk: robot.configuration.executedOfChunk)
    robot.vitals.trialStarted()
  }

  /// What to do about one observation.
  /// - Throws: ``RobotError`` `.invalidRequest`, `.diskFailed`, `.spoolFull`. The trial cannot go on then.
  mutating func observe(_ observe: Observe) async throws -> Command {
    let arrived = self.robot.runtime.now()
    try self.check(observe)
    // Once is enough: a program may go on observing while the robot holds still.
    if !self.isStopped, let violation = self.robot.configuration.limits.jointViolation(observe.jointAngles) {
      self.robot.report(safety: "joint-limit", trialID: self.trialID, detail: violation)
      self.robot.stopNow(reason: violation)
    }
    guard !self.isStopped else { return self.holdStill(observe, since: arrived) }
    let choice = await self.choose(observe)
    // One step is recorded at a time: a slow disk slows the robot instead of filling memory.
    try await self.recording?.value
    // Policy and disk took their time, in which a stop may have come, and may have been lifted. Nothing is awaited between
    // this look and the answer.
    guard !self.isStopped else { return self.holdStill(observe, since: arrived) }
    return self.move(observe, choice, since: arrived)
  }

  /// The robot was told to stand still since the trial began, whether it may work again or not.
  private var isStopped: Bool { self.robot.condition.standstills != self.standstills }

  private func holdStill(_ observe: Observe, since arrived: ContinuousClock.Instant) -> Command {
    Command(
      step: observe.step, action: ActionLimits.hold(self.previous), modelVersion: self.header.modelVersion,
      micros: UInt64((self.robot.runtime.now() - arrived).micros), stop: true)
  }

  private mutating func move(
    _ observe: Observe, _ choice: ActionSource.Choice, since arrived: ContinuousClock.Instant
  ) -> Command {
    let verdict = self.robot.configuration.limits.limit(choice.action, previous: self.previous)
    if let event = verdict.event, self.reported.insert(event).inserted {
      // One of a kind a trial: a policy that saturates would else flood the monitor.
      self.robot.report(
        safety: event, trialID: self.trialID, detail: "step \(observe.step), asked for \(choice.action)")
    }
    self.previous = verdict.action
    self.nextStep += 1
    let took = self.robot.runtime.now() - arrived
    self.robot.vitals.step(fallback: choice.fallback, took: took)
    self.record(observe, verdict.action, choice)
    return Command(
      step: observe.step, action: verdict.action, modelVersion: choice.modelVersion,
      fallback: choice.fallback, limited: verdict.limited, micros: UInt64(took.micros))
  }

  /// Files the trial; it is durable when this returns.
  /// - Throws: ``RobotError`` `.diskFailed`, `.invalidRequest`, `.tooLarge`. The trial is to be aborted then.
  mutating func finish(_ finish: FinishTrial) async throws -> TrialFiled {
    guard [.success, .failure, .aborted].contains(finish.outcome) else {
      throw RobotError(.invalidRequest, "A trial ends with success, failure or aborted.")
    }
    guard finish.failureCode.utf8.count <= TrialLimits.textBytes else {
      throw RobotError(.invalidRequest, "A failure_code has at most \(TrialLimits.textBytes) bytes.")
    }
    // Without its last step it would not be what its outcome says.
    try await self.recording?.value
    return try await self.conclude(finish)
  }

  private mutating func conclude(_ finish: FinishTrial) async throws -> TrialFiled {
    var finish = finish
    if self.isStopped {
      finish.outcome = .aborted
      if finish.failureCode.isEmpty { finish.failureCode = "stopped" }
    }
    let filed = try await self.file(finish)
    await self.ended(finish)
    return filed
  }

  /// What follows of a trial that is filed, or will be.
  private func ended(_ finish: FinishTrial) async {
    // A first attempt may have come as far as the end.
    let end = await self.recorder.end ?? TrialEnd(outcome: finish.outcome, failureCode: finish.failureCode)
    do {
      try await self.robot.queue.finished(orderID: self.header.orderID, seed: self.header.seed)
    } catch {
      // The trial is filed all the same. At worst its seed is done once more after a restart.
      self.robot.logger.error("order not updated", metadata: ["error": "\(error)"])
    }
    self.robot.vitals.trialEnded(end.outcome)
    let finished = TrialFinished(
      robot: self.robot.name, trialID: self.trialID, task: self.header.task, mode: self.header.mode,
      modelVersion: self.header.modelVersion, outcome: end.outcome, failureCode: end.failureCode)
    self.robot.telemetry.send(TelemetryEvent(event: .trial(finished)))
    self.robot.trials.release(self.trialID)
  }

  /// Ends a trial that its control program cannot end. Files what there is, or drops it where the disk refuses. One that the disk
  /// lets nobody file or drop ends all the same: it is filed later, and its seed is not done again.
  mutating func abort(code: String) async {
    // One that could not be recorded is not part of the trial.
    _ = await self.recording?.result
    let finish = FinishTrial(outcome: .aborted, failureCode: code)
    do {
      _ = try await self.conclude(finish)
    } catch {
      let isDropped = await self.robot.spool.discard(trialID: self.trialID)
      self.robot.logger.error(
        isDropped ? "trial dropped" : "trial waits to be filed",
        metadata: ["trial.id": "\(self.trialID)", "error": "\(error)"])
      guard isDropped else { return await self.ended(finish) }
      await self.robot.queue.returned(orderID: self.header.orderID, seed: self.header.seed)
      self.robot.trials.release(self.trialID)
    }
  }

  private mutating func file(_ finish: FinishTrial) async throws -> TrialFiled {
    let entry: Spool.Entry
    do {
      let bytes = try await self.recorder.finish(
        outcome: finish.outcome, failureCode: finish.failureCode,
        operatorIntervention: finish.operatorIntervention, endedUnixNanos: self.robot.runtime.unixNanos())
      entry = try await self.robot.spool.file(trialID: self.trialID, bytes: bytes)
    } catch let error as RobotError where error.code == .diskFailed {
      guard await self.recorder.end != nil else { throw error }
      self.robot.logger.error(
        "trial is filed anew", metadata: ["trial.id": "\(self.trialID)", "error": "\(error)"])
      entry = try await self.robot.spool.fileAnew(trialID: self.trialID)
    }
    return TrialFiled(trialID: self.trialID, durable: true, bytes: entry.bytes)
  }

  private mutating func choose(_ observe: Observe) async -> ActionSource.Choice {
    if self.header.mode == .demonstration {
      let action = observe.proposedAction.isEmpty ? observe.expertAction : observe.proposedAction
      return ActionSource.Choice(action: action, modelVersion: "", fallback: false)
    }
    let observation = Observation(
      robot: self.header.robot, trialID: self.trialID, step: observe.step, task: self.header.task,
      image: observe.image, imageHeight: self.header.imageHeight, imageWidth: self.header.imageWidth,
      jointAngles: observe.jointAngles)
    return await self.source.choose(for: observation, previous: self.previous)
  }

  private mutating func record(_ observe: Observe, _ action: [Float], _ choice: ActionSource.Choice) {
    let step = TrialStep(
      index: observe.step, elapsedNanos: Int64((self.robot.runtime.now() - self.began).micros) * 1_000,
      jointAngles: observe.jointAngles, action: action, gripper: observe.gripper,
      expertAction: observe.expertAction.map { min(max($0, -1), 1) }, modelVersion: choice.modelVersion,
      fallback: choice.fallback)
    self.recording = Task(executorPreference: self.robot.runtime.taskExecutor) { [recorder] in
      try await recorder.append(step, image: observe.image)
    }
  }

  private func check(_ observe: Observe) throws(RobotError) {
    try RequestChecks.check(observe, step: self.nextStep, header: self.header)
  }

  /// Sorts by time; the random part keeps a robot whose clock was set back from using an id again.
  private static func newTrialID(_ runtime: Runtime) -> String {
    let millis = String(runtime.unixNanos() / 1_000_000, radix: 16)
    let random = String(runtime.random(), radix: 16)
    return "t\(millis)-\(random)"
  }
}
