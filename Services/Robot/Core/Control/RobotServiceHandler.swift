package import GRPCCore
import Logging
package import Schemas

/// Answers the control program and the fleet.
package struct RobotServiceHandler: RobotService.SimpleServiceProtocol {
  private static let longestWait: UInt32 = 60_000
  private static let listedOrders = 1_000

  private let robot: Robot
  private let makeCompressor: @Sendable (Int, Int) throws -> any ImageCompressor

  package init(
    robot: Robot,
    makeCompressor: @escaping @Sendable (Int, Int) throws -> any ImageCompressor = {
      try H264Images(width: $0, height: $1)
    }
  ) {
    self.robot = robot
    self.makeCompressor = makeCompressor
  }

  package func nextWork(request: NextWorkRequest, context: ServerContext) async throws -> NextWorkResponse {
    try self.robot.tasks.remember(request.tasks)
    // A program that asks for work is not doing any: what still seems to run lost its program.
    if self.robot.trials.evict() {
      self.robot.logger.warning("control program came back without its trial")
      await self.slotIsFree()
    }
    _ = try await self.robot.spool.admit(trialID: "next")
    let wait = Duration.milliseconds(min(request.waitMillis, Self.longestWait))
    let deadline = ContinuousClock.now + wait
    while self.robot.condition.obstacle != nil || self.robot.trials.current != nil {
      let left = deadline - .now
      guard left > .zero else { return NextWorkResponse() }
      try await Task.sleep(for: min(left, .milliseconds(200)))
    }
    let item = await self.robot.queue.next(
      within: deadline - .now, modelVersion: self.robot.model.desired.version)
    guard self.robot.condition.obstacle == nil else { return NextWorkResponse() }
    return NextWorkResponse(item: item)
  }

  package func enqueue(request: WorkOrder, context: ServerContext) async throws -> EnqueueResponse {
    try self.robot.tasks.check(request.task)
    return EnqueueResponse(waiting: try await self.robot.queue.enqueue(request))
  }

  package func listWork(request: ListWorkRequest, context: ServerContext) async throws -> ListWorkResponse {
    let (orders, total) = await self.robot.queue.open(atMost: Self.listedOrders)
    return ListWorkResponse(orders: orders, total: UInt32(clamping: total))
  }

  package func cancelWork(request: CancelWorkRequest, context: ServerContext) async throws -> RobotStatus {
    try await self.robot.queue.cancel(orderID: request.orderID)
    return self.robot.status()
  }

  package func getStatus(request: GetRobotStatusRequest, context: ServerContext) async throws -> RobotStatus {
    self.robot.status()
  }

  package func stop(request: StopRequest, context: ServerContext) async throws -> RobotStatus {
    await self.robot.stop(reason: request.reason)
    return self.robot.status()
  }

  package func resume(request: ResumeRequest, context: ServerContext) async throws -> RobotStatus {
    await self.robot.resume(continuing: request.continueWork, reason: request.reason)
    return self.robot.status()
  }

  package func control(
    request: RPCAsyncSequence<ControlRequest, any Error>, response: RPCWriter<ControlResponse>,
    context: ServerContext
  ) async throws {
    let stream = ControlStream(robot: self.robot, makeCompressor: self.makeCompressor)
    try await stream.run(requests: request, responses: response)
  }

  private func slotIsFree() async {
    for _ in 0..<20 where self.robot.trials.current != nil {
      await self.robot.trials.changed.wait(
        beyond: self.robot.trials.changed.changes, atMost: .milliseconds(50))
    }
  }
}
