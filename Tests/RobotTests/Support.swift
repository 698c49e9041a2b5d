import Foundation
import GRPCCore
import GRPCInProcessTransport
import Logging
import Schemas
import Storage
import TestSupport
import Testing

@testable import RobotCore

/// Keeps images as they are: what matters to most tests is which ones arrive.
struct PlainImages: ImageCompressor {
  private var images: [UInt8] = []
  var bytes: Int { self.images.count }
  private var count: UInt32 = 0

  mutating func add(_ image: [UInt8]) {
    self.images += image
    self.count += 1
  }

  mutating func finish(firstStep: UInt32) -> TrialVideo {
    TrialVideo(codec: "raw", firstStep: firstStep, frames: self.count, data: self.images)
  }
}

/// An encoder that gives nothing in the end.
struct BrokenImages: ImageCompressor {
  struct Failure: Error {}
  let bytes = 0
  mutating func add(_ image: [UInt8]) {}
  mutating func finish(firstStep: UInt32) throws -> TrialVideo { throw Failure() }
}

struct FixedPolicy: LocalPolicy {
  var version = "v1"
  var actions: [Float] = [0.1, 0.2, 0.3, 0.4]

  func act(_ observation: Observation) async throws -> [Float] { self.actions }
}

struct BrokenPolicy: LocalPolicy {
  struct Failure: Error {}
  let version = "v1"
  func act(_ observation: Observation) async throws -> [Float] { throw Failure() }
}

func makeRobot(
  _ folder: TemporaryFolder, disk: any Disk = SystemDisk(),
  configure: (inout Robot.Configuration) -> Void = { _ in }
) throws -> Robot {
  var configuration = Robot.Configuration(
    identity: RobotIdentity(name: "r1", facility: "bench", cohort: "sawyer"), folder: folder.path)
  configuration.reserveBytes = 0
  configure(&configuration)
  return try Robot(configuration, disk: disk, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
}

/// Runs the robot's service without a socket.
func withService<Result: Sendable>(
  _ robot: Robot,
  makeCompressor: @escaping @Sendable () -> any ImageCompressor = { PlainImages() },
  _ body: @Sendable @escaping (RobotService.Client<InProcessTransport.Client>) async throws -> Result
) async throws -> Result {
  let transport = InProcessTransport()
  let handler = RobotServiceHandler(robot: robot) { _, _ in makeCompressor() }
  let server = GRPCServer(transport: transport.server, services: [handler])
  return try await withGRPCClient(transport: transport.client) { client in
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      defer { server.beginGracefulShutdown() }
      return try await body(RobotService.Client(wrapping: client))
    }
  }
}

enum Messages {
  static let side: UInt32 = 16

  static func start(
    _ mode: ControlMode = .demonstration, order: String = "", seed: UInt64 = 7, task: String = "reach-v3"
  ) -> ControlRequest {
    ControlRequest(
      request: .start(
        StartTrial(
          task: task, mode: mode, seed: seed, imageHeight: side, imageWidth: side, controlHertz: 80,
          orderID: order)))
  }

  static func observe(
    _ step: UInt32, expert: [Float] = [0.5, -0.5, 0, 1], proposed: [Float] = [],
    joints: [Float] = [Float](repeating: 0, count: 7), imageBytes: Int = Int(side * side * 3)
  ) -> ControlRequest {
    ControlRequest(
      request: .observe(
        Observe(
          step: step, image: [UInt8](repeating: UInt8(step % 256), count: imageBytes), jointAngles: joints,
          gripper: 0.5, expertAction: expert, proposedAction: proposed)))
  }

  static func finish(_ outcome: Outcome = .success, _ code: String = "") -> ControlRequest {
    ControlRequest(request: .finish(FinishTrial(outcome: outcome, failureCode: code)))
  }

  static func order(
    _ id: String, seeds: [UInt64], mode: ControlMode = .demonstration, maxSteps: UInt32 = 100
  ) -> WorkOrder {
    WorkOrder(orderID: id, task: "reach-v3", mode: mode, seeds: seeds, maxSteps: maxSteps)
  }

  /// A trial as it lies in the spool.
  static func events(_ trialID: String, steps: Int = 3) -> [TrialEvent] {
    let header = TrialHeader(trialID: trialID, robot: "r1", task: "reach-v3", mode: .demonstration)
    let run = (0..<steps).map { TrialStep(index: UInt32($0), action: [0, 0, 0, 0]) }
    let parts: [TrialEvent.Event] = [
      .header(header), .steps(TrialSteps(steps: run)),
      .video(TrialVideo(codec: "raw", frames: UInt32(steps))),
      .end(TrialEnd(outcome: .success, steps: UInt32(steps))),
    ]
    return parts.enumerated().map {
      TrialEvent(robot: "r1", trialID: trialID, number: UInt32($0.offset), event: $0.element)
    }
  }

  /// Its file as agents wrote it before there were checksums: each event's length, then the event.
  static func uncheckedSpoolFile(_ trialID: String) -> Data {
    self.events(trialID).reduce(into: Data()) { file, event in
      let message = event.serializedBytes()
      withUnsafeBytes(of: UInt32(message.count).littleEndian) { file.append(contentsOf: $0) }
      file.append(contentsOf: message)
    }
  }
}

extension Spool {
  /// Files a trial as a recorder would.
  @discardableResult
  func store(_ trialID: String, steps: Int = 3, on disk: any Disk = SystemDisk()) throws -> Entry {
    var file = try SpoolFile(creating: self.admit(trialID: trialID), on: disk)
    for event in Messages.events(trialID, steps: steps) { try file.append(event) }
    try file.synchronize()
    return try self.file(trialID: trialID, bytes: file.bytes)
  }
}

/// Requests that a test sends one by one over a control stream, and the answers to them.
func control(
  _ client: RobotService.Client<InProcessTransport.Client>, _ requests: [ControlRequest]
) async throws -> [ControlResponse.Response] {
  try await client.control(
    requestProducer: { writer in try await writer.write(contentsOf: requests) },
    onResponse: { response in
      var answers: [ControlResponse.Response] = []
      for try await message in response.messages {
        if let answer = message.response { answers.append(answer) }
      }
      return answers
    })
}

extension ControlResponse.Response {
  var command: Command? { if case .command(let command) = self { command } else { nil } }
  var filed: TrialFiled? { if case .filed(let filed) = self { filed } else { nil } }
}

extension [TrialEvent] {
  var steps: [TrialStep] {
    self.flatMap { event in if case .steps(let run) = event.event { run.steps } else { [TrialStep]() } }
  }
  var videos: [TrialVideo] { self.compactMap { if case .video(let video) = $0.event { video } else { nil } } }
  var header: TrialHeader? { if case .header(let header) = self.first?.event { header } else { nil } }
  var end: TrialEnd? { if case .end(let end) = self.last?.event { end } else { nil } }
}

/// Waits until something is so; fails the test where it does not become so in time.
func eventually(
  _ what: @autoclosure () -> Comment, within limit: Duration = .seconds(60),
  _ condition: () async throws -> Bool,
  sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let deadline = ContinuousClock.now + limit
  while ContinuousClock.now < deadline {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(10))
  }
  Issue.record(what(), sourceLocation: sourceLocation)
}

extension Data {
  /// With one bit turned, counted from the first byte's lowest.
  func turning(_ bit: Int) -> Data {
    var turned = self
    turned[bit / 8] ^= 1 << (bit % 8)
    return turned
  }
}
