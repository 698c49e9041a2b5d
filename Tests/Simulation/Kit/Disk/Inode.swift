import Foundation

/// A file whatever it is called.
final class Inode {
  enum Change { case write(Int, [UInt8]), truncate(Int) }

  /// Bytes that a disk reads and writes at once.
  static let sector = 512

  /// What processes read, where they can.
  private(set) var content: [UInt8] = []
  /// What is on the disk for certain.
  private(set) var durable: [UInt8] = []
  /// What may be on the disk besides, oldest first.
  private var pending: [Change] = []
  /// Bits that turned since they were written, by their byte.
  private(set) var flips: [Int: UInt8] = [:]
  /// Sectors that cannot be read, by their number.
  private(set) var badSectors: Set<Int> = []
  /// Another number whenever anything of it changes, and none that another file ever had.
  private(set) var stamp: UInt64

  private static nonisolated(unsafe) var stamps: UInt64 = 0

  init() {
    Self.stamps += 1
    self.stamp = Self.stamps
  }

  private func isChanged() {
    Self.stamps += 1
    self.stamp = Self.stamps
  }

  func change(_ change: Change) {
    Self.apply(change, to: &self.content)
    self.pending.append(change)
    self.isChanged()
    // What is written anew is whole again, wherever the disk puts it.
    switch change {
    case .write(let offset, let bytes):
      guard self.isDamaged else { break }
      let range = offset..<offset + bytes.count
      self.flips = self.flips.filter { !range.contains($0.key) }
      self.badSectors = self.badSectors.filter { !Self.range(ofSector: $0).overlaps(range) }
    case .truncate(let size):
      guard self.isDamaged else { break }
      self.flips = self.flips.filter { $0.key < size }
      self.badSectors = self.badSectors.filter { Self.range(ofSector: $0).lowerBound < size }
    }
  }

  private static func apply(_ change: Change, to bytes: inout [UInt8]) {
    switch change {
    case .write(let offset, let new) where offset == bytes.count: bytes.append(contentsOf: new)
    case .write(let offset, let new):
      Self.grow(&bytes, to: offset + new.count)
      bytes.withUnsafeMutableBytes { target in
        new.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: $0)
        }
      }
    case .truncate(let size):
      if size < bytes.count { bytes.removeLast(bytes.count - size) } else { Self.grow(&bytes, to: size) }
    }
  }

  private static func grow(_ bytes: inout [UInt8], to size: Int) {
    if bytes.count < size { bytes.append(contentsOf: [UInt8](repeating: 0, count: size - bytes.count)) }
  }

  // MARK: Syncs

  func synchronize() {
    for change in self.pending { Self.apply(change, to: &self.durable) }
    self.settle()
  }

  /// A sync that fails has written some of what was to be written, and nobody writes the rest again.
  func failToSynchronize(_ random: inout SimulationRandom) {
    for change in self.pending where random.chance(0.5) { Self.apply(change, to: &self.durable) }
    self.settle()
  }

  private func settle() {
    self.pending = []
    self.isChanged()
  }

  // MARK: A power cut

  /// Leaves what is durable, and any part of what is pending that a disk may have written on its own.
  func cutPower(_ random: inout SimulationRandom) {
    self.tear(&random)
    self.content = self.durable
    self.flips = self.flips.filter { $0.key < self.durable.count }
    self.settle()
  }

  private func tear(_ random: inout SimulationRandom) {
    switch random.index(below: 4) {
    case 0: return
    case 1:
      for change in self.pending { Self.apply(change, to: &self.durable) }
    case 2:
      // In order, up to somewhere within a write.
      let whole = random.index(below: self.pending.count + 1)
      for change in self.pending.prefix(whole) { Self.apply(change, to: &self.durable) }
      if whole < self.pending.count, case .write(let offset, let bytes) = self.pending[whole] {
        let count = random.index(below: bytes.count + 1)
        Self.apply(.write(offset, Array(bytes.prefix(count))), to: &self.durable)
      }
    default: self.tearBySector(&random)
    }
  }

  /// Any of the sectors, in any order; the size first, so that what is missing reads as zeros.
  private func tearBySector(_ random: inout SimulationRandom) {
    for change in self.pending {
      guard case .write(let offset, let bytes) = change else {
        if random.chance(0.5) { Self.apply(change, to: &self.durable) }
        continue
      }
      var from = 0
      while from < bytes.count {
        let to = min(bytes.count, (offset + from) / Self.sector * Self.sector + Self.sector - offset)
        if random.chance(0.5) {
          Self.apply(.write(offset + from, Array(bytes[from..<to])), to: &self.durable)
        }
        from = to
      }
    }
  }

  // MARK: Decay

  var isDamaged: Bool { !self.flips.isEmpty || !self.badSectors.isEmpty }

  /// Whether nothing of it waits to be written: only what lies still decays.
  var isAtRest: Bool { self.pending.isEmpty && !self.durable.isEmpty }

  /// Turns a bit, on the disk and in memory.
  func flip(bit: Int, ofByte index: Int) {
    let mask = UInt8(1) << UInt8(bit)
    self.durable[index] ^= mask
    if index < self.content.count { self.content[index] ^= mask }
    self.flips[index, default: 0] ^= mask
    if self.flips[index] == 0 { self.flips[index] = nil }
    self.isChanged()
  }

  /// Makes the sector of a byte unreadable.
  func breakSector(ofByte index: Int) {
    self.badSectors.insert(index / Self.sector)
    self.isChanged()
  }

  func canRead(_ range: Range<Int>) -> Bool {
    !self.badSectors.contains { Self.range(ofSector: $0).overlaps(range) }
  }

  /// Bytes that are not as they were written, or cannot be read.
  var damaged: [Range<Int>] {
    self.flips.keys.sorted().map { $0..<$0 + 1 } + self.badSectors.sorted().map(Self.range(ofSector:))
  }

  /// As it was written: without the bits that turned since.
  func asWritten(durably: Bool) -> [UInt8] {
    var bytes = durably ? self.durable : self.content
    for (index, mask) in self.flips where index < bytes.count { bytes[index] ^= mask }
    return bytes
  }

  private static func range(ofSector number: Int) -> Range<Int> {
    number * Self.sector..<(number + 1) * Self.sector
  }
}
