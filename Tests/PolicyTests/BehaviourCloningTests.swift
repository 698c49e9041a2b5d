import Policy
import Schemas
import Testing

@Suite struct BehaviourCloningTests {
  func options(_ change: (inout TrainingConfiguration) -> Void = { _ in }) throws -> TrainingOptions {
    var message = TrainingConfiguration(
      optimizerSteps: 200, batchSize: 16, learningRate: 3e-3, warmupSteps: 10, shiftPixels: -1,
      colorJitter: -1)
    change(&message)
    return try TrainingOptions(message, imageSize: 16)
  }

  @Test(arguments: Loss.allCases)
  func aFewSamplesAreLearntByHeart(loss: Loss) throws {
    let configuration = try tinyConfiguration(chunk: 2)
    let data = RandomDataset(configuration, count: 16, tasks: 0..<2, seed: 1)
    let training = try BehaviourCloning(
      network: PolicyNetwork(configuration: configuration, tasks: ["a", "b"], seed: 1),
      options: self.options { $0.loss = loss.rawValue })
    let sampler = try StratifiedSampler([.init(samples: Array(0..<16), share: 1)], seed: 1)
    let before = try training.validate(data, samples: Array(0..<16))
    var batch = TrainingBatch()
    while !training.isFinished { try training.step(data, sampler: sampler, batch: &batch) }
    let after = try training.validate(data, samples: Array(0..<16))
    #expect(training.step == 200)
    #expect(after < before / 4, "\(loss) fell from \(before) to \(after) only")
  }

  @Test func aFrozenTrunkAndOldHeadsStayBitwiseTheSame() throws {
    let configuration = try tinyConfiguration()
    let old = try PolicyNetwork(configuration: configuration, tasks: ["a", "b"], seed: 1)
    let network = try old.grow(tasks: ["c"], seed: 2)
    let data = RandomDataset(configuration, count: 16, tasks: 2..<3, seed: 3)
    let replay = RandomDataset(configuration, count: 6, tasks: 0..<2, seed: 4).samples
    let before = try network.forward(replay)
    let oldFiles = try old.files()
    #expect(try old.forward(replay) == before)
    let training = try BehaviourCloning(
      network: network, options: self.options { $0.learningRate = 0.03 }, firstLearningTask: 2)
    let first = try training.validate(data, samples: Array(0..<16))
    for _ in 0..<100 { try training.step(data.samples) }
    #expect(try network.forward(replay) == before)
    let files = try network.files()
    for (index, file) in oldFiles.enumerated() {
      #expect(file.bytes == files[index].bytes, "\(file.name) changed")
    }
    #expect(try training.validate(data, samples: Array(0..<16)) < first * 0.7)
  }

  @Test func everythingLearnsWithoutFreezing() throws {
    let configuration = try tinyConfiguration()
    let network = try PolicyNetwork(configuration: configuration, tasks: ["a"], seed: 1)
    let before = try network.files().map(\.bytes)
    let training = try BehaviourCloning(network: network, options: self.options())
    try training.step(RandomDataset(configuration, count: 16, tasks: 0..<1, seed: 3).samples)
    #expect(try zip(before, network.files()).allSatisfy { $0 != $1.bytes })
  }

  @Test(arguments: [nil, 1])
  func afterAKillTrainingGoesOnAsIfNothingHappened(firstLearningTask: Int?) throws {
    let configuration = try tinyConfiguration()
    let options = try self.options {
      $0.shiftPixels = 2; $0.colorJitter = 0.3; $0.optimizerSteps = 20
    }
    let data = RandomDataset(configuration, count: 40, tasks: 0..<2, seed: 3)
    let sampler = try StratifiedSampler(
      [.init(samples: Array(0..<30), share: 0.7), .init(samples: Array(30..<40), share: 0.3)], seed: 6)
    var batch = TrainingBatch()
    func make(seed: UInt64) throws -> BehaviourCloning {
      try BehaviourCloning(
        network: PolicyNetwork(configuration: configuration, tasks: ["a", "b"], seed: seed), options: options,
        firstLearningTask: firstLearningTask)
    }
    let whole = try make(seed: 1)
    var checkpoint: [UInt8] = []
    var losses: [Double] = []
    for step in 0..<20 {
      if step == 8 { checkpoint = try whole.checkpoint() }
      losses.append(try whole.step(data, sampler: sampler, batch: &batch))
    }
    // Another seed: everything must come from the checkpoint.
    let resumed = try make(seed: 2)
    try resumed.restore(checkpoint)
    #expect(resumed.step == 8)
    var after: [Double] = []
    for _ in 8..<20 { after.append(try resumed.step(data, sampler: sampler, batch: &batch)) }
    #expect(after == Array(losses[8...]))
    #expect(try resumed.network.forward(data.samples) == whole.network.forward(data.samples))
    #expect(resumed.isFinished)
  }

  @Test func sampleWeightsDecideWhatIsLearnt() throws {
    let configuration = try tinyConfiguration()
    let data = RandomDataset(configuration, count: 16, tasks: 0..<1, seed: 3)
    var batch = data.samples
    batch.weights = (0..<16).map { $0 < 8 ? 1 : 0 }
    let training = try BehaviourCloning(
      network: PolicyNetwork(configuration: configuration, tasks: ["a"], seed: 1), options: self.options())
    for _ in 0..<150 { try training.step(batch) }
    let weighted = try training.validate(data, samples: Array(0..<8))
    let ignored = try training.validate(data, samples: Array(8..<16))
    #expect(weighted * 4 < ignored)
  }

  @Test func targetsThatDivergeAreAnErrorAndChangeNothing() throws {
    let configuration = try tinyConfiguration()
    var batch = RandomDataset(configuration, count: 4, tasks: 0..<1, seed: 3).samples
    let training = try BehaviourCloning(
      network: PolicyNetwork(configuration: configuration, tasks: ["a"], seed: 1), options: self.options())
    let before = try training.network.forward(batch)
    batch.targets[0] = .greatestFiniteMagnitude
    #expect(code { try training.step(batch) } == .diverged)
    batch.targets[0] = .nan
    #expect(code { try training.step(batch) } == .invalidInput)
    #expect(try training.network.forward(batch) == before)
    #expect(training.step == 0)
  }

  @Test func batchesThatDoNotFitAreRefused() throws {
    let configuration = try tinyConfiguration()
    let network = try PolicyNetwork(configuration: configuration, tasks: ["a", "b"])
    let good = RandomDataset(configuration, count: 4, tasks: 0..<2, seed: 3).samples
    let changes: [(inout TrainingBatch) -> Void] = [
      { $0.images.removeLast() }, { $0.joints[3] = .infinity }, { $0.tasks[0] = 2 }, { $0.tasks[0] = -1 },
      { $0.count = 0 }, { $0.count = 5 }, { $0.targets.append(0) }, { $0.weights = [0, 0, 0, 0] },
      { $0.weights[0] = -1 },
    ]
    #expect(throws: Never.self) { try network.loss(good, .mse) }
    for change in changes {
      var bad = good
      change(&bad)
      #expect(code { _ = try network.loss(bad, .mse) } == .invalidInput)
    }
  }

  @Test func anotherNetworksCheckpointIsRefused() throws {
    let training = try BehaviourCloning(
      network: PolicyNetwork(configuration: tinyConfiguration(), tasks: ["a"]), options: self.options())
    let other = try BehaviourCloning(
      network: PolicyNetwork(configuration: tinyConfiguration(), tasks: ["a", "b"]), options: self.options())
    let bytes = try training.checkpoint()
    #expect(code { try other.restore(bytes) } == .invalidWeights)
    #expect(code { try training.restore(Array(bytes.dropLast(9))) } == .invalidWeights)
    #expect(throws: Never.self) { try training.restore(bytes) }
  }

  @Test func theScheduleWarmsUpThenFalls() throws {
    let options = try self.options { $0.learningRate = 1e-2 }
    let configuration = try tinyConfiguration()
    #expect(options.warmupSteps == 10)
    #expect(options.optimizerSteps == 200)
    #expect(code { _ = try self.options { $0.loss = "huber" } } == .invalidConfiguration)
    #expect(code { _ = try self.options { $0.learningRate = -1 } } == .invalidConfiguration)
    #expect(code { _ = try self.options { $0.replayShare = 1 } } == .invalidConfiguration)
    #expect(code { _ = try self.options { $0.validationShare = 0.6 } } == .invalidConfiguration)
    // A bound on time ends training though steps are left.
    let bounded = try BehaviourCloning(
      network: PolicyNetwork(configuration: configuration, tasks: ["a"]),
      options: self.options { $0.maxSeconds = 1e-6 })
    let data = RandomDataset(configuration, count: 16, tasks: 0..<1, seed: 3)
    var batch = TrainingBatch()
    try bounded.step(
      data, sampler: StratifiedSampler([.init(samples: [0, 1], share: 1)], seed: 0), batch: &batch)
    #expect(bounded.isFinished)
    #expect(bounded.step == 1)
  }

  @Test func strataGetTheirShares() throws {
    let sampler = try StratifiedSampler(
      [.init(samples: Array(0..<5), share: 3), .init(samples: [7], share: 1), .init(samples: [], share: 9)],
      seed: 1)
    let chosen = (0..<100).flatMap { sampler.indices(step: $0, count: 40) }
    let rare = Double(chosen.count { $0 == 7 }) / Double(chosen.count)
    #expect(abs(rare - 0.25) < 0.03)
    #expect(Set(chosen) == [0, 1, 2, 3, 4, 7])
    #expect(sampler.indices(step: 3, count: 8) == sampler.indices(step: 3, count: 8))
    #expect(code { _ = try StratifiedSampler([], seed: 0) } == .invalidConfiguration)
  }
}
