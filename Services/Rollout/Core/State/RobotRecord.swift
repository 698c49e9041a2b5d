/// What a robot is to act with, and by which release.
package struct Placement: Sendable, Hashable, Codable {
  /// Empty: no model.
  package var version: String
  /// Empty: by none.
  package var releaseID: String
  /// SHA-256 of the manifest in hex, as an adopted robot said it; nil where the registry's counts.
  package var manifest: String?
  /// Rollout did not know the robot, and left it what it had.
  package var adopted: Bool?

  package static let nothing = Placement(version: "", releaseID: "")

  package init(version: String, releaseID: String, manifest: String? = nil, adopted: Bool? = nil) {
    self.version = version
    self.releaseID = releaseID
    self.manifest = manifest
    self.adopted = adopted
  }
}

/// One robot as rollout knows it.
package struct RobotRecord: Sendable, Hashable, Codable {
  package var name: String
  package var placement: Placement = .nothing
  /// Decisions about it; nothing that a robot says enters it.
  package var generation: UInt64 = 0
  /// Random; generations count within it. It is begun anew with the first decision of each process: a process cannot know whether
  /// its database is an older copy, and no two decisions may have one number.
  package private(set) var epoch: UInt64 = 0
  /// Epochs that it has left, latest last: a robot that still follows one is behind, not ahead.
  package private(set) var leftEpochs: [LeftEpoch] = []
  /// Number of the process that began the epoch; 0 for one before there were such numbers.
  private var life: UInt64 = 0
  /// When its placement was decided; 0 for never.
  package var decidedUnixNanos: Int64 = 0
  package var reported = ""
  /// Whether what it follows is the latest decision.
  package var follows = false
  package var reportedUnixNanos: Int64 = 0
  package var error = ""
  /// When it was last heard of, by the clock that nobody sets; a new process has heard of all at its beginning.
  package var heardUptimeNanos: Int64 = 0

  /// Epochs that are remembered as left.
  static let rememberedEpochs = 8

  package init(name: String, epoch: UInt64, life: UInt64) {
    self.name = name
    self.epoch = epoch
    self.life = life
  }

  private enum CodingKeys: CodingKey {
    case name, placement, generation, epoch, leftEpochs, life, decidedUnixNanos, reported, follows
    case reportedUnixNanos, error
  }

  /// A record of a version that knew no epochs lacks some fields: its robot gets an epoch with its next report.
  package init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.name = try values.decode(String.self, forKey: .name)
    self.placement = try values.decode(Placement.self, forKey: .placement)
    self.generation = try values.decode(UInt64.self, forKey: .generation)
    self.epoch = try values.decodeIfPresent(UInt64.self, forKey: .epoch) ?? 0
    self.leftEpochs = try values.decodeIfPresent([LeftEpoch].self, forKey: .leftEpochs) ?? []
    self.life = try values.decodeIfPresent(UInt64.self, forKey: .life) ?? 0
    self.decidedUnixNanos = try values.decodeIfPresent(Int64.self, forKey: .decidedUnixNanos) ?? 0
    self.reported = try values.decode(String.self, forKey: .reported)
    self.follows = try values.decodeIfPresent(Bool.self, forKey: .follows) ?? false
    self.reportedUnixNanos = try values.decode(Int64.self, forKey: .reportedUnixNanos)
    self.error = try values.decode(String.self, forKey: .error)
  }

  /// Whether it said that it acts with what is desired.
  package var isSettled: Bool {
    (self.follows || self.generation == 0) && self.reported == self.placement.version
  }

  /// Desires something else.
  /// - Parameter life: number of the process that decides: its first decision about this robot begins an epoch.
  mutating func place(_ placement: Placement, decided: Int64, life: UInt64) {
    if self.life != life { self.begin(epoch: life, life: life) }
    self.placement = placement
    self.decidedUnixNanos = decided
    self.generation += 1
    self.follows = false
  }

  /// Counts from now on in another epoch.
  mutating func begin(epoch: UInt64, life: UInt64) {
    if self.epoch != 0 { self.leave(self.epoch, at: self.generation) }
    self.epoch = epoch
    self.life = life
    self.follows = false
  }

  /// Knows of decisions in an epoch up to some number, and makes no more of them.
  mutating func leave(_ epoch: UInt64, at generation: UInt64) {
    let known = self.leftEpochs.first { $0.epoch == epoch }?.generation ?? 0
    self.leftEpochs.removeAll { $0.epoch == epoch }
    self.leftEpochs.append(LeftEpoch(epoch: epoch, generation: max(known, generation)))
    self.leftEpochs = self.leftEpochs.suffix(Self.rememberedEpochs)
  }

  /// Whether a decision of another epoch is known here, and was followed by others.
  func hasLeft(_ epoch: UInt64, generation: UInt64) -> Bool {
    self.leftEpochs.contains { $0.epoch == epoch && generation <= $0.generation }
  }
}

/// An epoch in which nothing is decided any more, and the last decision in it that is known. What a robot follows beyond that was
/// said by a state that is lost.
package struct LeftEpoch: Sendable, Hashable, Codable {
  package var epoch: UInt64
  package var generation: UInt64

  package init(epoch: UInt64, generation: UInt64) {
    self.epoch = epoch
    self.generation = generation
  }

  private enum CodingKeys: CodingKey {
    case epoch, generation
  }

  /// Earlier versions stored the number of the epoch alone.
  package init(from decoder: any Decoder) throws {
    if let epoch = try? decoder.singleValueContainer().decode(UInt64.self) {
      self.init(epoch: epoch, generation: .max)
    } else {
      let values = try decoder.container(keyedBy: CodingKeys.self)
      self.init(
        epoch: try values.decode(UInt64.self, forKey: .epoch),
        generation: try values.decode(UInt64.self, forKey: .generation))
    }
  }
}
