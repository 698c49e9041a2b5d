import Storage

/// A host's disk through all of its lives: what processes see, and what a power cut leaves of it.
///
/// Names are durable only when the folder that they are in is synced, those of folders too; contents only when their file is.
public final class Platter {
  let host: String
  unowned let simulation: Simulation
  public var faults = DiskFaults()
  /// Bytes that fit on it.
  public var capacity = Int.max
  /// Failures that it made so far.
  public internal(set) var failures = 0
  /// Called after a name went away, with the path.
  public var didRemove: ((String) -> Void)?
  /// Called after a file was renamed, with its new path.
  public var didMove: ((String) -> Void)?
  /// Called after bytes of a file were read, or were to be; with its path.
  public var didRead: ((String, Reading) -> Void)?
  var random: SimulationRandom
  private(set) var names = DiskNames()
  private var durableNames = DiskNames()
  private var pendingNames: [DiskNames.Change] = []

  init(host: String, simulation: Simulation, random: SimulationRandom) {
    self.host = host
    self.simulation = simulation
    self.random = random
  }

  var usedBytes: Int { self.names.order.reduce(0) { $0 + (self.names.files[$1]?.content.count ?? 0) } }

  func change(_ change: DiskNames.Change) {
    self.names.apply(change)
    self.pendingNames.append(change)
  }

  /// A rename is on the disk as a whole, with either of its folders, and with all that came before it there.
  func synchronizeFolder(_ folder: String) {
    var needed: Set<String> = [folder]
    var chosen: [Int] = []
    for (index, change) in self.pendingNames.enumerated().reversed() {
      let folders = change.folders
      guard folders.contains(where: needed.contains) else { continue }
      needed.formUnion(folders)
      chosen.append(index)
    }
    for index in chosen.reversed() { self.durableNames.apply(self.pendingNames[index]) }
    let written = Set(chosen)
    self.pendingNames = self.pendingNames.enumerated().filter { !written.contains($0.offset) }.map(\.element)
  }

  /// Leaves what is durable, and any part of what is pending that a disk may have written on its own.
  func cutPower() {
    var isCut: Set<String> = []
    let kept = self.random.pick([0.0, 0.5, 0.9, 1.0])
    for change in self.pendingNames {
      let folders = change.folders
      if folders.contains(where: isCut.contains) || !self.random.chance(kept) {
        isCut.formUnion(folders)
      } else {
        self.durableNames.apply(change)
      }
    }
    self.pendingNames = []
    self.durableNames.dropUnreachable()
    self.names = self.durableNames
    for path in self.names.order { self.names.files[path]?.cutPower(&self.random) }
  }

  // MARK: Decay

  /// What becomes of bytes that lie still.
  public enum Decay: Sendable {
    /// A bit turns, and nobody says so.
    case flippedBit
    /// A sector cannot be read any more.
    case badSector
  }

  /// Harms one of the files below a folder, somewhere.
  /// - Parameters:
  ///   - spacing: bytes of a file for each sector of it that cannot be read, at least: where more of it is bad, its disk fails.
  ///   - isMeant: chooses among their paths.
  public func decay(
    _ decay: Decay, below folder: String, spacing: Int = 0, where isMeant: (String) -> Bool = { _ in true }
  ) {
    let paths = self.names.order.filter {
      guard $0.hasPrefix(folder + "/"), isMeant($0), let inode = self.names.files[$0] else { return false }
      return inode.isAtRest && (inode.badSectors.count + 1) * spacing <= inode.durable.count
    }
    guard !paths.isEmpty else { return }
    let path = self.random.pick(paths)
    guard let inode = self.names.files[path] else { return }
    let index = self.random.index(below: inode.durable.count)
    self.failures += 1
    switch decay {
    case .flippedBit:
      let bit = self.random.index(below: 8)
      self.simulation.note("\(self.host): bit \(bit) of byte \(index) turns in \(path)")
      inode.flip(bit: bit, ofByte: index)
    case .badSector:
      self.simulation.note("\(self.host): the sector of byte \(index) of \(path) cannot be read any more")
      inode.breakSector(ofByte: index)
    }
  }

  // MARK: For those who check

  /// What became of a try to read.
  public enum Reading: Sendable {
    /// `isWhole`: all bytes of the file at once.
    case done(isWhole: Bool)
    /// The disk did not let these bytes be read; nil where it did not open the file.
    case failed(Range<Int>?)
  }

  /// A file as those see it who check.
  public struct File {
    public var path: String
    /// As it was written: without the bits that turned since.
    public var bytes: [UInt8]
    /// What of it is not as it was written any more, or cannot be read.
    public var damaged: [Range<Int>]
    /// Another number whenever anything of it changes, and none that another file ever had.
    public var stamp: UInt64
  }

  /// Files below a folder, by their age.
  /// - Parameter durably: after a power cut that leaves nothing but what is certain; else as processes see them.
  public func files(below folder: String, durably: Bool) -> [File] {
    let names = durably ? self.durableNames : self.names
    return names.order.filter { $0.hasPrefix(folder + "/") && (!durably || names.isReachable($0)) }
      .compactMap { path in
        names.files[path].map {
          File(path: path, bytes: $0.asWritten(durably: durably), damaged: $0.damaged, stamp: $0.stamp)
        }
      }
  }

  /// Whether bits of a file turned.
  public func isFlipped(_ path: String) -> Bool { self.names.files[path].map { !$0.flips.isEmpty } ?? false }

  /// Whether a file is not as it was written, or cannot be read.
  public func isDamaged(_ path: String) -> Bool { self.names.files[path]?.isDamaged ?? false }
}
