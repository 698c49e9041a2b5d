import Schemas

/// Looks at the last file of a log, as whatever ended the last process left it, and makes it one that can be appended to, or
/// says why it is none.
struct LogRepair {
  enum Outcome {
    /// Sealed already.
    case sealed
    /// Nothing was ever stored in it.
    case empty
    /// Something in it is damaged: it stays as it is, and nothing is appended behind it.
    case damaged(LogContents)
    /// Good to its end, once that many torn bytes were cut off.
    case whole(LogContents, torn: Int)
  }

  /// How much of a damaged trial is read to learn its name, in bytes.
  private static let claim = 64 << 10

  let name: String
  let file: LogFile
  /// What stands in a file before its first chunk.
  let head: [UInt8]
  /// End of the last chunk that is known to have been acknowledged; 0 where none is.
  let acknowledgedEnd: Int

  /// - Parameter damaged: told of damage before anything else is changed.
  /// - Throws: ``TrialsError``, and what `damaged` throws.
  func run(_ damaged: (FoundDamage) throws -> Void) throws -> Outcome {
    guard try LogSummary.read(self.file) == nil else {
      try self.file.synchronize()
      return .sealed
    }
    let scan = try LogScanner.scan(self.file)
    var damages: [FoundDamage] = []
    for bytes in scan.damages {
      damages.append(try self.damage(bytes, mayBeTorn: try self.mayBeOfLastGroup(bytes, scan.entries)))
    }
    damages += try self.damagedTail(scan)
    let contents = LogContents(entries: scan.entries, damages: damages.map(\.bytes))
    guard damages.isEmpty else {
      for damage in damages { try damaged(damage) }
      try self.renew(scan)
      return .damaged(contents)
    }
    guard scan.goodEnd > 0 else { return .empty }
    let torn = self.file.size - scan.goodEnd
    if torn > 0 || !scan.endsWithIndex {
      try self.file.cut(to: scan.goodEnd)
      if !scan.endsWithIndex, let chunk = scan.entries.last?.chunk {
        let record = ChunkRecord(try self.file.read(at: chunk.offset, count: chunk.length), at: chunk.offset)
        if let record { try self.file.append(record.index) }
      }
    }
    try self.renew(scan)
    return .whole(contents, torn: torn)
  }

  /// What lies behind the last good chunk, unless it is certain that nothing acknowledged was there.
  private func damagedTail(_ scan: LogScanner.Scan) throws(TrialsError) -> [FoundDamage] {
    // What was acknowledged is no torn write. Nor is a file without anything good that is longer than a beginning.
    let isHeadless = scan.goodEnd == 0 && self.file.size > self.head.count
    let isKnown = self.file.size > scan.goodEnd && self.acknowledgedEnd > scan.goodEnd
    var places = scan.goodEnd > 0 || isHeadless ? scan.tail : []
    if places.isEmpty, isKnown || isHeadless { places = [scan.goodEnd..<self.file.size] }
    var damages: [FoundDamage] = []
    for bytes in places { damages.append(try self.damage(bytes, mayBeTorn: !isHeadless)) }
    return damages
  }

  /// - Parameter mayBeTorn: whether it was in the last write, as far as its place tells. The catalog need not know the last trials
  ///   that were acknowledged, so the bytes must tell.
  private func damage(_ bytes: Range<Int>, mayBeTorn: Bool) throws(TrialsError) -> FoundDamage {
    var damage = try FoundDamage(bytes, in: self.file, named: self.name)
    guard mayBeTorn, bytes.lowerBound >= self.acknowledgedEnd else { return damage }
    damage.mayBeTorn = true
    let claim = try self.file.readAroundBad(
      at: bytes.lowerBound, count: min(Self.claim, self.file.size - bytes.lowerBound))
    damage.claimed = ChunkRecord.claimedName(claim)
    return damage
  }

  /// Whether damage in front of good trials may be of the same group as the last of them. One sync is for all of a group, so that any
  /// part of it may be missing after a power cut; what is of an earlier one was synced and acknowledged. A group has one time.
  private func mayBeOfLastGroup(_ bytes: Range<Int>, _ entries: [LogScanner.Scan.Entry]) throws(TrialsError)
    -> Bool
  {
    guard let last = entries.last?.storedUnixNanos,
      entries.allSatisfy({ $0.chunk.offset < bytes.lowerBound || $0.storedUnixNanos == last })
    else { return false }
    // No trial ends before it was stored. Where its head is damaged too, nothing says when that was.
    let head = try self.file.readAroundBad(
      at: bytes.lowerBound, count: min(ChunkRecord.headBytes, bytes.count))
    return ChunkRecord.end(head: head[...]).map { $0 >= UInt64(max(0, last)) } ?? true
  }

  /// Writes what is good, and is not known to have been synced, once more, and syncs it.
  ///
  /// What is read here may stand in the machine's memory only: a killed process leaves it there, and after a sync that failed
  /// the machine takes it for written though it is not. From now on it is answered as stored, so it must survive a power cut.
  private func renew(_ scan: LogScanner.Scan) throws(TrialsError) {
    let isKnown = scan.entries.contains { $0.chunk.offset + $0.chunk.length == self.acknowledgedEnd }
    let durableEnd = isKnown ? self.acknowledgedEnd : 0
    if durableEnd == 0, scan.start > 0 { try self.renewHead(0..<scan.start) }
    for (number, chunk) in scan.entries.map(\.chunk).enumerated() where chunk.offset >= durableEnd {
      var bytes = try self.file.read(at: chunk.offset, count: chunk.length)
      // Its index as well, as it should be: a hole there costs no trial, but stops whoever walks from record to record.
      let next = number + 1 < scan.entries.count ? scan.entries[number + 1].chunk.offset : self.file.size
      if chunk.next <= next { bytes += ChunkRecord(bytes, at: chunk.offset)?.index ?? [] }
      try self.file.overwrite(bytes, at: chunk.offset)
    }
    try self.file.synchronize()
  }

  /// No trial stands in a head: one that cannot be read is written as it was, and one of an earlier version stays unreadable.
  private func renewHead(_ bytes: Range<Int>) throws(TrialsError) {
    if try self.file.readUnlessBad(at: 0, count: bytes.count) != nil {
      try self.file.renew(bytes)
    } else if bytes.count == self.head.count {
      try self.file.overwrite(self.head, at: 0)
    }
  }
}
