import Schemas

/// Damage as it is found in a log file, before anybody looks what it costs.
struct FoundDamage: Hashable, Sendable {
  var file: String
  var bytes: Range<Int>
  /// Of what stands there: other damage in the same place has another.
  var fingerprint: UInt32
  /// Whether a crash in the middle of a write leaves the same, so that nothing acknowledged may have been there.
  var mayBeTorn = false
  /// Whose trial the bytes say they hold, where `mayBeTorn`.
  var claimed: TrialName?
  /// Whether anything stands there.
  private let isThere: Bool

  /// Damage of bytes that are there.
  init(_ bytes: Range<Int>, in file: LogFile, named name: String) throws(TrialsError) {
    self.file = name
    self.bytes = bytes
    self.isThere = true
    // A chunk's head holds the CRC of its trial.
    let end = min(bytes.lowerBound + ChunkRecord.headBytes, bytes.upperBound, file.size)
    let count = max(0, end - bytes.lowerBound)
    self.fingerprint = CRC32.checksum(try file.readAroundBad(at: end - count, count: count))
  }

  /// Trials that are to lie where nothing of theirs stands.
  init(_ bytes: Range<Int>, missing names: [TrialName], from file: String) {
    self.file = file
    self.bytes = bytes
    self.isThere = false
    self.fingerprint = CRC32.checksum(
      Array(names.map { "\($0.robot)/\($0.trialID)" }.joined(separator: "\n").utf8))
  }
  /// Whether a trial may have been there besides those at some places.
  func mayHoldMore(than places: [LogPosition]) -> Bool {
    guard self.isThere else { return false }
    var start = self.bytes.lowerBound
    for place in places.sorted(by: { $0.offset < $1.offset }) {
      if place.offset > start, TrialLog.mayHoldTrial(start..<place.offset) { return true }
      start = max(start, place.offset + place.length)
    }
    return start < self.bytes.upperBound && TrialLog.mayHoldTrial(start..<self.bytes.upperBound)
  }
}
