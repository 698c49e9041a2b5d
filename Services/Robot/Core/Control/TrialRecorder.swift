package import Schemas
package import Storage
import Trials

/// Compresses the images of one run of steps.
package protocol ImageCompressor {
  /// Bytes that the images so far take; an image takes no more than it has raw.
  var bytes: Int { get }
  /// - Parameter image: raw RGB, height x width x 3 bytes.
  mutating func add(_ image: [UInt8]) throws
  /// All images added, which decode on their own.
  /// - Parameter firstStep: step of the first one.
  mutating func finish(firstStep: UInt32) throws -> TrialVideo
}

/// H.264, about 1 KB an image.
package struct H264Images: ImageCompressor {
  private let encoder: VideoEncoder

  package init(width: Int, height: Int) throws {
    self.encoder = try VideoEncoder(width: width, height: height)
  }

  package var bytes: Int { self.encoder.encodedBytes }
  package mutating func add(_ image: [UInt8]) throws { try self.encoder.append(image) }
  package mutating func finish(firstStep: UInt32) throws -> TrialVideo {
    try self.encoder.finish(firstStep: firstStep)
  }
}

/// Writes one trial to the spool while it happens. It has a thread of its own: compressing images and syncing disks take
/// milliseconds in which the robot must go on.
package actor TrialRecorder {
  /// Steps an event holds, and images a video, at most: a long trial must not be one huge message, nor stay in memory.
  static let stepsPerEvent = 64
  static let imagesPerVideo = 512
  /// Bytes kept for what surrounds steps, video and end in their events.
  static let roomForEnd = 2_048

  private let executor: any SerialExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let header: TrialHeader
  private let limitBytes: UInt64
  private let makeCompressor: @Sendable (_ width: Int, _ height: Int) throws -> any ImageCompressor
  private var file: SpoolFile
  private var compressor: (any ImageCompressor)?
  private var imagesInVideo: UInt32 = 0
  private var steps: [TrialStep] = []
  private var stepBytes = 0
  private var recorded: UInt32 = 0
  private var nextNumber: UInt32 = 0
  /// A write that failed may have left half an event: nothing may come after it.
  private var failure: RobotError?
  /// How the trial ended, once that is in the file: it is whole then, though the disk may not have it yet.
  package private(set) var end: TrialEnd?

  /// Creates the trial's file at `path` and writes its header.
  /// - Parameters:
  ///   - executor: the thread that records; shared by all trials of a robot, because they do not overlap.
  ///   - limitBytes: bytes that one trial may take on disk.
  /// - Throws: ``RobotError`` `.diskFailed`.
  package init(
    header: TrialHeader, path: String, disk: any Disk = SystemDisk(), executor: any SerialExecutor,
    limitBytes: UInt64,
    makeCompressor: @escaping @Sendable (_ width: Int, _ height: Int) throws -> any ImageCompressor
  ) throws {
    self.header = header
    self.executor = executor
    self.limitBytes = limitBytes
    self.makeCompressor = makeCompressor
    self.file = try SpoolFile(creating: path, on: disk)
    try self.file.append(
      TrialEvent(robot: header.robot, trialID: header.trialID, number: 0, event: .header(header)))
    self.nextNumber = 1
  }

  /// Adds a step and its image.
  /// - Throws: ``RobotError`` `.diskFailed`, `.tooLarge` where the trial would outgrow its bound: what it has can still be
  ///   filed then; an encoder's error.
  package func append(_ step: TrialStep, image: [UInt8]) throws {
    let size = step.serializedSize + 8
    let pending = self.stepBytes + (self.compressor?.bytes ?? 0)
    guard
      self.file.bytes + UInt64(pending + size + image.count + Self.roomForEnd) <= self.limitBytes
    else {
      throw RobotError(
        .tooLarge,
        "Trial \(self.header.trialID) would take more than \(self.limitBytes) bytes. End trials sooner.")
    }
    if self.compressor == nil {
      self.compressor = try self.makeCompressor(Int(self.header.imageWidth), Int(self.header.imageHeight))
    }
    try self.compressor?.add(image)
    self.imagesInVideo += 1
    self.steps.append(step)
    self.stepBytes += size
    self.recorded += 1
    if self.steps.count == Self.stepsPerEvent || self.stepBytes >= TrialLimits.eventBytes {
      try self.writeSteps()
    }
    let videoBytes = self.compressor?.bytes ?? 0
    if self.imagesInVideo == Self.imagesPerVideo || videoBytes >= TrialLimits.eventBytes {
      try self.writeVideo()
    }
  }

  /// Writes what is left and syncs it.
  /// - Returns: bytes on disk.
  /// - Throws: ``RobotError`` `.diskFailed`, also where the trial has its ``end`` already.
  package func finish(
    outcome: Outcome, failureCode: String, operatorIntervention: Bool, endedUnixNanos: Int64
  ) throws -> UInt64 {
    try self.writeSteps()
    do { try self.writeVideo() } catch  where !(error is RobotError) && outcome == .aborted {
      // What an encoder cannot give is missing, and the trial says that it did not go well.
    }
    let end = TrialEnd(
      outcome: outcome, failureCode: failureCode, operatorIntervention: operatorIntervention,
      steps: self.recorded, endedUnixNanos: endedUnixNanos)
    try self.write(.end(end))
    self.end = end
    // Whether the sync succeeds or not, nothing may come after the end.
    self.failure = RobotError(.diskFailed, "Trial \(self.header.trialID) has its end already.")
    try self.file.synchronize()
    return self.file.bytes
  }

  private func writeSteps() throws {
    guard !self.steps.isEmpty else { return }
    try self.write(.steps(TrialSteps(steps: self.steps)))
    self.steps.removeAll(keepingCapacity: true)
    self.stepBytes = 0
  }

  private func writeVideo() throws {
    guard var compressor = self.compressor else { return }
    // One that failed once is of no more use.
    self.compressor = nil
    let firstStep = self.recorded - self.imagesInVideo
    self.imagesInVideo = 0
    try self.write(.video(try compressor.finish(firstStep: firstStep)))
  }

  private func write(_ event: TrialEvent.Event) throws {
    if let failure { throw failure }
    do throws(RobotError) {
      try self.file.append(
        TrialEvent(
          robot: self.header.robot, trialID: self.header.trialID, number: self.nextNumber, event: event))
    } catch {
      self.failure = error
      throw error
    }
    self.nextNumber += 1
  }
}
