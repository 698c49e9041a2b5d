import Foundation
import GRPCCore
import GRPCInProcessTransport
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@testable import RobotCore

/// No action is handed out once a stop was acknowledged, whatever the step was waiting for when it came.
@Suite struct StopDuringStepTests {
  private typealias Client = RobotService.Client<InProcessTransport.Client>

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  /// Runs one trial; `during` is told once the program is past what it says first.
  private func run(
    _ client: Client, first: [ControlRequest], then last: [ControlRequest],
    _ during: @Sendable @escaping () async throws -> Void
  ) async throws -> [Command] {
    try await client.control(
      requestProducer: { writer in
        try await writer.write(contentsOf: first)
        try await during()
        try await writer.write(contentsOf: last)
      },
      onResponse: { response in
        var commands: [Command] = []
        for try await message in response.messages {
          if let command = message.response?.command { commands.append(command) }
        }
        return commands
      })
  }

  private func robot(_ policy: WaitingPolicy, disk: any Disk = SystemDisk()) throws -> Robot {
    let robot = try makeRobot(self.folder, disk: disk)
    robot.model.desire(
      DesiredVersion(robot: "r1", version: "v1", releaseID: "rel", generation: 1), from: .publication)
    robot.model.install(.init(policy))
    return robot
  }

  /// Whether the stop is lifted before the step goes on.
  private func stop(_ client: Client, isLifted: Bool) async throws {
    #expect(try await client.stop(StopRequest(reason: "a hand")).heartbeat?.state == .stopped)
    if isLifted { #expect(try await client.resume(ResumeRequest()).heartbeat?.state == .working) }
  }

  private func expectAborted(_ robot: Robot, steps: Int) async throws {
    let entry = try #require(await robot.spool.pending.first)
    let events = try #require(try await robot.spool.events(of: entry.trialID))
    #expect(events.end?.outcome == .aborted && events.end?.failureCode == "stopped")
    #expect(events.steps.count == steps, "what was not handed out is not recorded")
  }

  @Test(arguments: [false, true]) func `a stop that comes while the policy is awaited is obeyed`(
    isLifted: Bool
  ) async throws {
    let policy = WaitingPolicy()
    let robot = try self.robot(policy)
    let commands = try await withService(robot) { client in
      try await self.run(
        client, first: [Messages.start(.policy), Messages.observe(0, expert: [])],
        then: [Messages.finish(.success)]
      ) {
        try await eventually("the policy is asked") { policy.asked == 1 }
        try await self.stop(client, isLifted: isLifted)
        policy.answer()
      }
    }
    #expect(commands.map(\.stop) == [true])
    #expect(commands.first?.action == [0, 0, 0, 0])
    try await self.expectAborted(robot, steps: 0)
  }

  @Test(arguments: [false, true]) func `a stop that comes while the disk is awaited is obeyed`(
    isLifted: Bool
  ) async throws {
    let policy = WaitingPolicy()
    policy.answer()
    let disk = WaitingDisk()
    let robot = try self.robot(policy, disk: disk)
    // The last one waits for the steps before it to be written.
    let count = TrialRecorder.stepsPerEvent + 1
    let observed = (0..<count).map { Messages.observe(UInt32($0), expert: []) }
    let commands = try await withService(robot) { client in
      try await self.run(
        client, first: [Messages.start(.policy)] + observed, then: [Messages.finish(.success)]
      ) {
        try await eventually("the disk holds up the last step") { policy.asked == count && disk.isAwaited }
        try await self.stop(client, isLifted: isLifted)
        disk.goOn()
      }
    }
    #expect(commands.map(\.stop) == [Bool](repeating: false, count: count - 1) + [true])
    #expect(commands.last?.action == [0, 0, 0, 0.4])
    try await self.expectAborted(robot, steps: count - 1)
  }

  @Test(arguments: [false, true]) func `a stop that is lifted between two observations ends the trial`(
    byMonitor: Bool
  ) async throws {
    let policy = WaitingPolicy()
    policy.answer()
    let robot = try self.robot(policy)
    let commands = try await withService(robot) { client in
      try await self.run(
        client, first: [Messages.start(.policy), Messages.observe(0, expert: [])],
        then: [Messages.observe(1, expert: []), Messages.finish(.success)]
      ) {
        try await eventually("a step is done") { robot.steps == 1 }
        if byMonitor {
          for healthy in [false, true] {
            let generation: UInt64 = healthy ? 2 : 1
            await robot.follow(HealthDirective(robot: "r1", healthy: healthy, generation: generation))
          }
        } else {
          try await self.stop(client, isLifted: true)
        }
        #expect(robot.condition.obstacle == nil)
      }
    }
    #expect(commands.map(\.stop) == [false, true])
    try await self.expectAborted(robot, steps: 1)
  }

  @Test func `a trial that is finished after a stop is no success, though nothing was observed since`()
    async throws
  {
    let policy = WaitingPolicy()
    policy.answer()
    let robot = try self.robot(policy)
    let commands = try await withService(robot) { client in
      try await self.run(
        client, first: [Messages.start(.policy), Messages.observe(0, expert: [])],
        then: [Messages.finish(.success)]
      ) {
        try await eventually("a step is done") { robot.steps == 1 }
        try await self.stop(client, isLifted: true)
      }
    }
    #expect(commands.map(\.stop) == [false])
    try await self.expectAborted(robot, steps: 1)
  }
}

extension Robot {
  fileprivate var steps: UInt64 {
    var heartbeat = Heartbeat()
    self.vitals.describe(in: &heartbeat)
    return heartbeat.steps
  }
}

/// A policy that answers once it is told to.
private final class WaitingPolicy: LocalPolicy {
  let version = "v1"
  private let state = Mutex((asked: 0, answers: false))

  var asked: Int { self.state.withLock { $0.asked } }

  func answer() { self.state.withLock { $0.answers = true } }

  func act(_ observation: Observation) async throws -> [Float] {
    self.state.withLock { $0.asked += 1 }
    while !self.state.withLock({ $0.answers }) { try await Task.sleep(for: .milliseconds(1)) }
    return [0.1, 0.2, 0.3, 0.4]
  }
}

/// The machine's disk, on which a trial that is recorded gets no further than its header before it is told to.
private final class WaitingDisk: DiskDouble {
  let inner = SystemDisk()
  private let state = Mutex((isAwaited: false, goesOn: false))

  var isAwaited: Bool { self.state.withLock { $0.isAwaited } }
  func goOn() { self.state.withLock { $0.goesOn = true } }

  /// Called on the recorder's thread, which is there to be blocked. Not for ever: a test that failed must end.
  fileprivate func wait() {
    self.state.withLock { $0.isAwaited = true }
    let deadline = ContinuousClock.now + .seconds(60)
    while !self.state.withLock({ $0.goesOn }), .now < deadline { usleep(1_000) }
  }

  func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    let file = try self.inner.open(path, access, mode: mode)
    return path.contains("/spool/open/") ? WaitingFile(file, self) : file
  }
}

private final class WaitingFile: DiskFile {
  private let inner: any DiskFile
  private let disk: WaitingDisk

  init(_ inner: any DiskFile, _ disk: WaitingDisk) {
    self.inner = inner
    self.disk = disk
  }

  var path: String { self.inner.path }
  func size() throws(StorageError) -> Int { try self.inner.size() }
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) -> Int {
    try self.inner.read(into: buffer, at: offset)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(StorageError) {
    if offset > 0 { self.disk.wait() }
    try self.inner.write(bytes, at: offset)
  }
  func truncate(to size: Int) throws(StorageError) { try self.inner.truncate(to: size) }
  func synchronize() throws(StorageError) { try self.inner.synchronize() }
}
