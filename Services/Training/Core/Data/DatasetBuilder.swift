internal import Policy
internal import Schemas
internal import Storage
internal import Trials

/// Turns the events of trials, as ingest reads them out, into samples.
actor DatasetBuilder {
  private let executor = QueueExecutor(label: "fleetloop.training.dataset")
  nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let network: NetworkConfiguration
  private var samples: TrialSamples
  /// The trial that is coming in.
  private var header: TrialHeader?
  private var steps: [TrialStep] = []
  private var videos: [TrialVideo] = []
  /// Trials from which nothing can be learnt, with the reason.
  private(set) var skipped: [(trial: String, reason: String)] = []
  /// Trials of the snapshot that ingest cannot give any more.
  private(set) var missing: [String] = []

  init(network: NetworkConfiguration, folder: String, cacheLimit: Int) throws {
    self.network = network
    self.samples = TrialSamples(
      images: try SampleCache(folder: folder, imageBytes: network.imageBytes, limit: cacheLimit))
  }

  /// Takes the next event. A trial that is no good is skipped; only the disk or the cache's bound is an error.
  func take(_ event: TrialEvent) throws {
    switch event.event {
    case .header(let header):
      self.forget(because: "its end is missing")
      self.header = header
    case .steps(let run): self.steps += run.steps
    case .video(let video): self.videos.append(video)
    case .end(let end):
      guard let header = self.header else { return }
      try self.add(header, end)
      self.header = nil
      self.forget(because: "")
    case nil:
      if !event.missing.isEmpty { self.missing.append("\(event.robot)/\(event.trialID)") }
    }
    if self.steps.count > LearnableTrial.maximumSteps {
      self.forget(because: "it has more than \(LearnableTrial.maximumSteps) steps")
    }
  }

  /// Ends reading.
  func finish() throws -> TrialSamples {
    self.forget(because: "its end is missing")
    try self.samples.images.seal()
    return self.samples
  }

  private func forget(because reason: String) {
    if let header = self.header { self.skipped.append(("\(header.robot)/\(header.trialID)", reason)) }
    self.header = nil
    self.steps = []
    self.videos = []
  }

  private func add(_ header: TrialHeader, _ end: TrialEnd) throws {
    let steps = self.steps.sorted { $0.index < $1.index }
    let targets = LearnableTrial.targets(
      header: header, steps: steps, end: end, joints: self.network.joints,
      actions: self.network.actionDimensions)
    // Rows in the cache by step; only steps that teach something need an image.
    var rows: [UInt32: Int] = [:]
    for (step, target) in zip(steps, targets) where target != nil { rows[step.index] = rows.count }
    guard !rows.isEmpty else {
      self.skipped.append(("\(header.robot)/\(header.trialID)", "no step has an action to learn"))
      return
    }
    let images: [UInt8]
    do {
      images = try self.images(of: header, steps: steps, rows: rows)
    } catch {
      self.skipped.append(("\(header.robot)/\(header.trialID)", TrainingError.text(error)))
      return
    }
    let first = self.samples.images.count
    try self.samples.images.append(images)
    for (step, target) in zip(steps, targets) {
      guard let target, rows[step.index] != nil else { continue }
      self.samples.joints += step.jointAngles
      self.samples.actions += target
    }
    self.samples.trials.append(
      .init(
        key: "\(header.robot)/\(header.trialID)", task: header.task, samples: first..<(first + rows.count)))
  }

  /// The wanted images at the network's size, in the order of their rows.
  private func images(of header: TrialHeader, steps: [TrialStep], rows: [UInt32: Int]) throws -> [UInt8] {
    let (bytes, size) = (self.network.imageBytes, self.network.imageSize)
    var images = [UInt8](repeating: 0, count: rows.count * bytes)
    var found: Set<Int> = []
    func put(_ source: UnsafeBufferPointer<UInt8>, height: UInt32, width: UInt32, step: UInt32) throws {
      guard let row = rows[step] else { return }
      try images.withUnsafeMutableBufferPointer { target in
        try ImageResizer.resize(
          source, height: Int(height), width: Int(width), to: size,
          into: UnsafeMutableBufferPointer(rebasing: target[(row * bytes)..<((row + 1) * bytes)]))
      }
      found.insert(row)
    }
    for step in steps where !step.image.isEmpty {
      try step.image.withUnsafeBufferPointer {
        try put($0, height: header.imageHeight, width: header.imageWidth, step: step.index)
      }
    }
    for video in self.videos {
      var failure: (any Error)?
      try VideoDecoder.forEachFrame(of: video) { index, frame in
        guard failure == nil else { return }
        do {
          try put(
            frame, height: video.height, width: video.width, step: video.firstStep &+ UInt32(clamping: index))
        } catch {
          failure = error
        }
      }
      if let failure { throw failure }
    }
    guard found.count == rows.count else {
      throw TrainingError(.noData, "\(rows.count - found.count) of its steps have no image")
    }
    return images
  }
}
